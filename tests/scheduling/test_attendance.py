"""Machines are told of as they come and go, and kinds that were not measured once, whenever they come."""

from raybench.events import Notice
from raybench.scheduling.attendance import MOST_NAMES, Attendance
from raybench.scheduling.resources import Node, Share

SHARE = Share(cpu=1.0, gpu=0.0)


def machine(host: str, kind: str | None = None, *, cpus: float = 4) -> Node:
    return Node(cpus=cpus, gpus=float(kind is not None), accelerator=kind, host=host, node_id=f"id of {host}")


def texts(told: list[Notice]) -> list[str]:
    assert all(notice.lasting for notice in told)
    return [notice.text for notice in told]


def test_several_machines_are_named_and_who_comes_or_goes() -> None:
    there, told = [machine("one"), machine("two"), machine("head", cpus=0)], list[Notice]()
    machines = Attendance(lambda: tuple(there), share=SHARE, is_joined=False, measured=None, tell=told.append)
    assert machines() == tuple(there)
    machines()
    assert texts(told) == ["2 machines: one and two"], "the head has no room for a trial"
    there.append(machine("three"))
    machines()
    del there[0]
    machines()
    assert texts(told)[1:] == [
        "Came: three; 3 machines take trials now",
        "Went away: one; 2 machines take trials now",
    ]


def test_one_machine_is_worth_telling_where_more_may_be_expected() -> None:
    told: list[Notice] = []
    Attendance(lambda: [machine("one")], share=SHARE, is_joined=True, measured=None, tell=told.append)()
    assert texts(told) == ["1 machine: one"]


def test_one_machine_is_not_worth_telling_and_of_many_some_are_named() -> None:
    told: list[Notice] = []
    Attendance(lambda: [machine("one")], share=SHARE, is_joined=False, measured=None, tell=told.append)()
    assert told == []
    many = [machine(f"m{number}") for number in range(MOST_NAMES + 3)]
    Attendance(lambda: many, share=SHARE, is_joined=False, measured=None, tell=told.append)()
    assert texts(told) == ["9 machines: m0, m1, m2, m3, m4, m5 and 3 more"]


def test_the_first_machine_of_a_kind_that_was_not_measured_is_told_of_and_no_other() -> None:
    there, told = [machine("a", "A10G"), machine("b")], list[Notice]()
    machines = Attendance(lambda: tuple(there), share=SHARE, is_joined=False, measured=("A10G",), tell=told.append)
    machines()
    there += [machine("c", "L4"), machine("d", "L4")]
    machines()
    machines()
    kinds = [text for text in texts(told) if text.startswith("Nobody has measured what trials take alone on L4")]
    assert len(kinds) == 1
    assert len(told) == 3
