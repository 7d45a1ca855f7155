"""How much of a machine a trial holds: from what it is expected to take, and how that grows."""

import pytest

from raybench.choices import memory_key
from raybench.records import Footprint
from raybench.scheduling.resources import Node, Share, held_share
from raybench.scheduling.shares import MARGIN, TENSOR_SHARE, Shares
from tests.scheduling.fakes import make_trial

GIGABYTE = 10**9
SMALL, LARGE = make_trial("small"), make_trial("large")
THIRD = 0.3333


def shares(base: Share, machines: list[Node], **footprints: Footprint) -> Shares:
    """Return shares where each machine's trials may take 8 GB, and trials take what is given by name."""
    known = {memory_key(make_trial(name)): each for name, each in footprints.items()}
    return Shares(base, machines, host_bytes=8 * GIGABYTE, footprints=known)


def growth(made: Shares) -> list[int]:
    """Return what a trial holds until it cannot get more."""
    held = [made.times(SMALL)]
    while made.grow(SMALL):
        held.append(made.times(SMALL))
    assert made.times(SMALL) == held[-1], "what is refused changes nothing"
    return held


@pytest.mark.parametrize(
    ("base", "machines", "held"),
    [
        (Share(cpu=1, gpu=0), [Node(cpus=1, gpus=0)], [1]),
        (Share(cpu=1, gpu=0), [Node(cpus=3, gpus=0)], [1, 2, 3]),
        (Share(cpu=1, gpu=0), [Node(cpus=8, gpus=0)], [1, 2, 4, 8]),
        (Share(cpu=0.5, gpu=0), [Node(cpus=3, gpus=0)], [1, 2, 4, 6]),
        (Share(cpu=0.3, gpu=0), [Node(cpus=0.9, gpus=0)], [1, 2, 3]),
        (Share(cpu=2, gpu=0), [Node(cpus=3, gpus=0)], [1]),
        (Share(cpu=1, gpu=0), [Node(cpus=2, gpus=0), Node(cpus=5, gpus=0)], [1, 2, 4, 5]),
        (Share(cpu=1, gpu=0.25), [Node(cpus=8, gpus=2)], [1, 2, 4]),
        (Share(cpu=1, gpu=THIRD), [Node(cpus=8, gpus=1)], [1, 2, 3]),
        (Share(cpu=1, gpu=0.4), [Node(cpus=8, gpus=1)], [1, 2]),
        (Share(cpu=1, gpu=1), [Node(cpus=8, gpus=4)], [1]),
        (Share(cpu=1, gpu=2), [Node(cpus=8, gpus=4)], [1]),
        (Share(cpu=1, gpu=0), [], [1]),
        (Share(cpu=1, gpu=0, workers=2), [Node(cpus=8, gpus=0)], [1, 2, 4]),
        (Share(cpu=1, gpu=0, workers=2), [Node(cpus=3, gpus=0)] * 2, [1, 2, 3]),  # one on each machine
        (Share(cpu=1, gpu=0, workers=3), [Node(cpus=3, gpus=0)] * 2, [1]),
        (Share(cpu=1, gpu=1, workers=2), [Node(cpus=8, gpus=4)], [1]),
    ],
)
def test_a_share_doubles_up_to_all_cores_or_a_whole_gpu(base: Share, machines: list[Node], held: list[int]) -> None:
    assert growth(shares(base, machines)) == held


@pytest.mark.parametrize(
    ("times", "gpu", "of_machine"), [(1, 0.3333, 0.3333 / 2), (2, 0.6666, 0.6666 / 2), (3, 0.9999, 0.9999 / 2)]
)
def test_thirds_of_a_gpu_add_up_to_one_and_never_to_more(times: int, gpu: float, of_machine: float) -> None:
    held = Share(cpu=1, gpu=THIRD, times=times)
    assert held.held_gpu == pytest.approx(gpu)
    assert held.held_cpu == 1, "cores go with the trial, not with its memory"
    assert held_share(held, Node(cpus=8, gpus=2)) == pytest.approx(of_machine)
    assert held.placement().required_resources == {"CPU": 1, "GPU": pytest.approx(gpu)}


@pytest.mark.parametrize(("times", "cpu"), [(1, 1.0), (2, 2.0), (3, 3.0)])
def test_on_a_cpu_a_trial_holds_cores_and_computes_with_those_of_one_share(times: int, cpu: float) -> None:
    held = Share(cpu=1, gpu=0, times=times)
    assert held.held_cpu == cpu
    assert held.threads == 1
    assert held_share(held, Node(cpus=3, gpus=0)) == pytest.approx(times / 3)
    assert held.placement().required_resources == {"CPU": cpu}


@pytest.mark.parametrize(
    ("host_gigabytes", "times"),
    [(1.9 / MARGIN, 1), (2.1 / MARGIN, 2), (4.1 / MARGIN, 4), (80.0, 4)],
    ids=["one share", "two", "all", "more than there is"],
)
def test_a_trial_begins_with_as_many_shares_as_it_is_expected_to_need(host_gigabytes: float, times: int) -> None:
    made = shares(
        Share(cpu=1, gpu=0), [Node(cpus=4, gpus=0)], large=Footprint(host_bytes=int(host_gigabytes * GIGABYTE))
    )
    assert made.times(LARGE) == times, "a share is 2 GB"
    assert made.times(SMALL) == 1, "nothing is known of it"
    assert made.of(LARGE) == Share(cpu=1, gpu=0, times=times)


@pytest.mark.parametrize(("part", "times"), [(0.2, 1), (0.26, 2), (0.6, 4), (1.5, 4)])
def test_a_trial_begins_with_as_much_of_a_gpu_as_it_is_expected_to_need(part: float, times: int) -> None:
    footprint = Footprint(host_bytes=1, gpu_bytes=1, gpu_share=part * TENSOR_SHARE / MARGIN)
    made = shares(Share(cpu=1, gpu=0.25), [Node(cpus=8, gpus=1)], large=footprint)
    assert made.times(LARGE) == times


def test_a_trial_that_needs_memory_of_the_machine_gets_more_of_its_gpu() -> None:
    made = shares(Share(cpu=1, gpu=0.25), [Node(cpus=8, gpus=1)], large=Footprint(host_bytes=3 * GIGABYTE))
    assert made.times(LARGE) == 2


def test_what_a_trial_takes_of_a_gpu_says_nothing_where_it_computes_without() -> None:
    made = shares(Share(cpu=1, gpu=0), [Node(cpus=4, gpus=0)], large=Footprint(host_bytes=1, gpu_share=0.9))
    assert made.times(LARGE) == 1


def test_trials_grow_each_by_themselves_from_where_they_began() -> None:
    made = shares(Share(cpu=1, gpu=0), [Node(cpus=6, gpus=0)], large=Footprint(host_bytes=2 * GIGABYTE))
    assert (made.times(SMALL), made.times(LARGE)) == (1, 2)
    assert made.grow(LARGE)
    assert (made.times(SMALL), made.times(LARGE)) == (1, 4)
    assert made.grow(LARGE)
    assert not made.grow(LARGE)
    assert (made.times(SMALL), made.times(LARGE)) == (1, 6)
