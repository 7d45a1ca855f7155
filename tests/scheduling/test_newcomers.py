"""Machines of a kind that was not measured: told of once, whenever they come."""

from raybench.events import Notice
from raybench.scheduling.newcomers import Newcomers
from raybench.scheduling.resources import Node

A10G, L4, CPU = (Node(cpus=4, gpus=float(kind is not None), accelerator=kind) for kind in ("A10G", "L4", None))


def test_the_first_machine_of_a_kind_that_was_not_measured_is_told_of_and_no_other() -> None:
    there, told = [A10G, CPU], list[Notice]()
    machines = Newcomers(lambda: tuple(there), measured=("A10G",), tell=told.append)
    assert machines() == (A10G, CPU)
    assert told == []
    there += [L4, L4]
    assert machines() == (A10G, CPU, L4, L4)
    there.remove(L4)
    machines()
    (notice,) = told
    assert notice.text.startswith("A machine with L4 came after the start")
    assert notice.lasting
