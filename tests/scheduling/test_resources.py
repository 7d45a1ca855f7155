"""What trials ask for, held against what there is."""

import math

import pytest

from raybench.errors import ExperimentError, InputError
from raybench.records import ResourceRequest
from raybench.scheduling.resources import Node, Share, check_declared, check_request, count_places, fit
from raybench.scheduling.settings import Settings, check_settings

LAPTOP = Node(cpus=2, gpus=0)
BOX = Node(cpus=8, gpus=2)


@pytest.mark.parametrize(
    ("gpu", "cpu", "machines", "share"),
    [
        (None, 1, [LAPTOP], Share(cpu=1, gpu=0)),
        (None, 1, [BOX], Share(cpu=1, gpu=1)),
        (None, 1, [LAPTOP, BOX], Share(cpu=1, gpu=1)),
        (0, 1, [BOX], Share(cpu=1, gpu=0)),
        (0.25, 1, [BOX], Share(cpu=1, gpu=0.25)),
        (1 / 3, 1.5, [BOX], Share(cpu=1.5, gpu=0.3333)),
        (0.3, 0.7, [BOX], Share(cpu=0.7, gpu=0.3)),
        (2, 8, [BOX], Share(cpu=8, gpu=2)),
        (None, None, [LAPTOP], Share(cpu=1, gpu=0)),
        (None, None, [BOX], Share(cpu=4, gpu=1)),
        (None, None, [LAPTOP, BOX, Node(cpus=4, gpus=2)], Share(cpu=2, gpu=1)),
        (0.25, None, [BOX], Share(cpu=1, gpu=0.25)),
        (None, None, [Node(cpus=2, gpus=8)], Share(cpu=1, gpu=1)),
    ],
)
def test_share_of_each_trial(gpu: float | None, cpu: float | None, machines: list[Node], share: Share) -> None:
    assert fit(ResourceRequest(gpu=gpu, cpu=cpu), machines) == share


@pytest.mark.parametrize(
    ("share", "machines", "places"),
    [
        (Share(cpu=1, gpu=0), [LAPTOP], 2),
        (Share(cpu=0.1, gpu=0), [LAPTOP], 20),
        (Share(cpu=0.3, gpu=0), [Node(cpus=0.9, gpus=0)], 3),
        (Share(cpu=1, gpu=0), [LAPTOP, BOX], 10),
        (Share(cpu=3, gpu=0), [LAPTOP, BOX], 2),
        (Share(cpu=1, gpu=1), [LAPTOP, BOX], 2),
        (Share(cpu=1, gpu=2), [BOX, BOX], 2),
        (Share(cpu=1, gpu=0.3333), [BOX], 6),
        (Share(cpu=1, gpu=0.4), [BOX], 4),  # two on each GPU, none on the rests of both
        (Share(cpu=4, gpu=0.25), [BOX], 2),
        (Share(cpu=1, gpu=0), [], 0),
        (Share(cpu=1, gpu=0, workers=2), [LAPTOP], 1),
        (Share(cpu=1, gpu=0, workers=3), [LAPTOP, LAPTOP], 1),  # on both machines
        (Share(cpu=1, gpu=0, workers=2), [Node(cpus=3, gpus=0)] * 2, 3),
        (Share(cpu=1, gpu=1, workers=4), [BOX, BOX], 1),
        (Share(cpu=1, gpu=1, workers=3), [BOX], 0),
    ],
)
def test_places_of_all_machines_together(share: Share, machines: list[Node], places: int) -> None:
    assert count_places(share, machines) == places


@pytest.mark.parametrize(("cpu", "threads"), [(0.25, 1), (1, 1), (1.9, 1), (4, 4)])
def test_threads_are_whole_cores_and_at_least_one(cpu: float, threads: int) -> None:
    assert Share(cpu=cpu, gpu=0).threads == threads


@pytest.mark.parametrize(
    ("gpu", "cpu", "machines", "message"),
    [
        (
            3,
            1,
            [BOX],
            r"resources\.gpu: 3 is more than the 2 that one machine has here; give a number up to 2, or auto",
        ),
        (2, 1, [Node(cpus=8, gpus=1)] * 2, r"resources\.gpu: 2 is more than the 1 that one machine has here"),
        (0.5, 1, [LAPTOP], r"resources\.gpu: 0\.5 is more than there is: no GPU was found; give 0 or auto"),
        (1.5, 1, [BOX], r"resources\.gpu: 1\.5 is more than one GPU with a fraction; give a fraction up to 1"),
        (-1, 1, [BOX], r"resources\.gpu: -1 is not accepted"),
        (math.nan, 1, [BOX], r"resources\.gpu: nan is not accepted"),
        (0.00001, 1, [BOX], r"resources\.gpu: 1e-05 is not accepted"),
        (
            0,
            3,
            [LAPTOP],
            r"resources\.cpu: 3 is more than the 2 cores that one machine has here; give a number up to 2",
        ),
        (0, 0, [LAPTOP], r"resources\.cpu: 0 is not accepted"),
        (0, -1, [LAPTOP], r"resources\.cpu: -1 is not accepted"),
        (0, math.inf, [LAPTOP], r"resources\.cpu: inf is not accepted"),
        (1, 8, [Node(cpus=8, gpus=0), Node(cpus=2, gpus=1)], r"resources: no single machine has 1 GPUs and 8 cores"),
    ],
)
def test_what_no_machine_can_give_is_refused_by_key_and_value(
    gpu: float, cpu: float, machines: list[Node], message: str
) -> None:
    with pytest.raises(ExperimentError, match=message):
        fit(ResourceRequest(gpu=gpu, cpu=cpu), machines)


@pytest.mark.parametrize(
    ("num_cpus", "num_gpus", "message"),
    [(0, None, "--num-cpus: 0 is not accepted"), (None, -1, "--num-gpus: -1 is not accepted")],
)
def test_counts_that_no_machine_has_are_refused(num_cpus: int | None, num_gpus: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_declared(num_cpus=num_cpus, num_gpus=num_gpus)


def test_a_request_is_held_against_declared_counts_before_anything_starts() -> None:
    request = ResourceRequest(gpu=4, cpu=1)
    check_request(request)
    check_settings(Settings(asha=None, resources=request))
    check_settings(Settings(asha=None, resources=request, num_cpus=2))
    with pytest.raises(ExperimentError, match=r"resources\.gpu: 4 is more than the 2"):
        check_settings(Settings(asha=None, resources=request, num_gpus=2))


@pytest.mark.parametrize(
    ("gpu", "cpu", "machines", "share"),
    [
        (None, None, [LAPTOP], Share(cpu=1, gpu=0, workers=2)),
        (None, None, [BOX], Share(cpu=4, gpu=1, workers=2)),
        (0, 4, [BOX], Share(cpu=4, gpu=0, workers=2)),
        (2, 1, [BOX, BOX], Share(cpu=1, gpu=2, workers=2)),
    ],
)
def test_share_of_each_of_two_workers(gpu: float | None, cpu: float | None, machines: list[Node], share: Share) -> None:
    assert fit(ResourceRequest(gpu=gpu, cpu=cpu, workers=2), machines) == share


@pytest.mark.parametrize(
    ("request_", "machines", "message"),
    [
        (
            ResourceRequest(gpu=0.0, cpu=1.0, workers=3),
            [LAPTOP],
            r"resources\.workers_per_trial: 3 workers with 1 CPU core each find no room here: there is room for 2; ",
        ),
        (ResourceRequest(gpu=None, cpu=None, workers=3), [BOX], r"3 workers with 1 GPU each find no room here"),
        (
            ResourceRequest(gpu=0.5, cpu=1.0, workers=2),
            [BOX],
            r"resources\.gpu: 0\.5 is not accepted with workers_per_trial: 2; each worker needs a GPU of its own",
        ),
        (
            ResourceRequest(gpu=None, cpu=1.0, workers=2, sync_batchnorm=True),
            [LAPTOP],
            r"training\.sync_batchnorm: true is not accepted with workers_per_trial: 2 on CPUs",
        ),
    ],
)
def test_workers_that_cannot_be_are_refused(request_: ResourceRequest, machines: list[Node], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        fit(request_, machines)


def test_a_single_worker_normalises_the_whole_batch_anyway() -> None:
    assert fit(ResourceRequest(gpu=0.0, cpu=1.0, sync_batchnorm=True), [LAPTOP]) == Share(cpu=1, gpu=0)


def test_what_nobody_knows_yet_has_room_for_workers() -> None:
    check_settings(Settings(asha=None, resources=ResourceRequest(gpu=None, cpu=None, workers=8)))
    with pytest.raises(ExperimentError, match="8 workers with 1 CPU core each find no room here"):
        check_settings(Settings(asha=None, resources=ResourceRequest(gpu=0.0, cpu=None, workers=8)), cpus=2, gpus=0)
