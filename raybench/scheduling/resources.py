"""What one trial asks for, held against what there is.

In: a `ResourceRequest` of the experiment and the nodes that Ray sees. Out: a `Share`, the same for every trial
of a run but for the kinds of accelerator that a model is pinned to, so that Ray Tune can hand one process from trial
to trial.

A fraction of a GPU is bookkeeping: Ray puts that many trials on it and isolates nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import ray
from ray.tune import PlacementGroupFactory

from raybench.errors import ExperimentError, InputError
from raybench.experiment_parts import check_gpu_of_workers
from raybench.records import ResourceRequest
from raybench.scheduling.connections import accepts

INSTANCE_LABEL = "raybench/instance"
"""Label of a Ray node that names its machine type, which prices are listed by."""
ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""Label of a Ray node that names the kind of its accelerator: Ray sets it where it finds a GPU."""
GROUP_LABEL = "ray.io/node-group"
"""Label of a Ray node that a launcher started, with its kind of node."""
STEP = 0.0001
"""Ray counts resources in ten-thousandths."""
ACCELERATOR = "accelerator_type:"
"""What the resource that names a machine's GPUs begins with."""
ROUNDING = 1e-6
"""Of a step: 0.3 / 0.0001 is a little less than 3000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What one machine brings."""

    cpus: float
    gpus: float
    accelerator: str | None = field(default=None, compare=False)
    """Kind of its GPUs as Ray labels it, such as `A10G`; None where it has none, or they are declared only."""
    node_id: str = field(default="", compare=False)
    """Ray's."""
    host: str = field(default="", compare=False)
    instance_type: str | None = field(default=None, compare=False)
    """What it is labelled with."""
    group: str | None = field(default=None, compare=False)
    """Which of its kinds of node a launcher of clusters (`ray up`, KubeRay) started it as; None: no launcher did."""
    listens: tuple[str, int] | None = field(default=None, compare=False)
    """Address and port of Ray's process there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What each trial gets, or each of its workers, in the steps that Ray counts in."""

    cpu: float
    gpu: float
    times: int = 1
    """How many such shares a trial holds that takes more memory than one; it computes no sooner for it."""
    accelerators: tuple[str, ...] = ()
    """Kinds of accelerator of which its machine has one; empty: any machine."""
    workers: int = 1
    """Processes that train a trial together and hold as much each; their own placement group is Ray Train's."""

    @property
    def threads(self) -> int:
        """Threads that the trial may compute with."""
        return max(1, math.floor(self.cpu))

    def placement(self) -> PlacementGroupFactory:
        """Return what Ray Tune holds: for the process of several workers' trial next to nothing, but never nothing."""
        bundle = self.bundle if self.workers == 1 else {"memory": float(self.times)}
        if not self.accelerators:
            return PlacementGroupFactory([bundle])
        return PlacementGroupFactory([bundle], bundle_label_selector=[label_selector(self.accelerators)])

    @property
    def bundle(self) -> dict[str, float]:
        """What is held by each worker, by Ray's names."""
        return {"CPU": self.cpu, "GPU": self.held_gpu} if self.gpu else {"CPU": self.held_cpu}

    @property
    def held_cpu(self) -> float:
        """Cores that nobody else gets."""
        return self.cpu if self.gpu else _quantised(self.cpu * self.times)

    @property
    def held_gpu(self) -> float:
        """GPUs, or the part of one, that nobody else gets; never parts of two."""
        return self.gpu if self.gpu >= 1 else _quantised(min(1.0, self.gpu * self.times))


def nodes() -> list[Node]:
    """Return the machines that Ray has now."""
    return [_node(node) for node in _ray_nodes() if node["Alive"]]


def is_there(machine: Node) -> bool:
    """Return whether Ray's process on a machine takes connections: Ray itself notices its loss after 15 s or more."""
    return machine.listens is None or accepts(*machine.listens)


@cache
def node(node_id: str) -> Node:
    """Return a machine; a process asks about its own, which does not change."""
    return next(_node(each) for each in _ray_nodes() if each["NodeID"] == node_id)


def device_name(machine: Node, *, on_gpus: bool, processor: Callable[[], str]) -> str:
    """Return what trials compute on there, by which measurements are kept: the kind of GPU, or the processor's name."""
    return machine.accelerator if on_gpus and machine.accelerator is not None else processor()


def device_share(share: Share, machine: Node) -> float:
    """Return the part of a machine, 0 to 1, that a trial of that share would have to itself if it ran alone.

    A part of a GPU is bookkeeping, so alone it has the whole of it; on CPUs it has its part of the cores. Several
    workers have so much each: together more than 1 where one such machine would not do.
    """
    each = math.ceil(share.gpu) / machine.gpus if share.gpu else share.cpu / machine.cpus
    return share.workers * each


def held_share(share: Share, machine: Node) -> float:
    """Return the part of a machine, 0 to 1, that a worker of that share holds: of its GPUs, or of its cores."""
    return share.held_gpu / machine.gpus if share.gpu else share.held_cpu / machine.cpus


def _node(said: Mapping[str, Any]) -> Node:
    resources: Mapping[str, float] = said["Resources"]
    kinds = [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
    labels: Mapping[str, str] = said.get("Labels", {})
    gpus = float(resources.get("GPU", 0))
    return Node(
        cpus=float(resources.get("CPU", 0)),
        gpus=gpus,
        accelerator=labels.get(ACCELERATOR_LABEL) or (kinds[0] if kinds and gpus else None),
        node_id=said["NodeID"],
        host=said.get("NodeManagerHostname", ""),
        instance_type=labels.get(INSTANCE_LABEL),
        group=labels.get(GROUP_LABEL),
        listens=(said["NodeManagerAddress"], said["NodeManagerPort"]),
    )


def check_request(request: ResourceRequest) -> None:
    """Check what is wrong on any machine.

    Raises:
        ExperimentError: a share is no number, negative, too small to count, or more than one GPU with a fraction; or
            one that several workers cannot have.

    """
    if request.workers > 1:
        try:
            check_gpu_of_workers(request.workers, request.gpu, sync=request.sync_batchnorm)
        except ValueError as error:
            raise ExperimentError(str(error)) from None
    if request.cpu is not None and (not math.isfinite(request.cpu) or request.cpu < STEP):
        raise ExperimentError(
            f"resources.cpu: {request.cpu:g} is not accepted; give auto, or a number of cores from {STEP} up"
        )
    gpu = request.gpu
    if gpu is None or gpu == 0:
        return
    if not math.isfinite(gpu) or gpu < STEP:
        raise ExperimentError(f"resources.gpu: {gpu:g} is not accepted; give auto, 0, or a number from {STEP} up")
    if gpu > 1 and not float(gpu).is_integer():
        raise ExperimentError(
            f"resources.gpu: {gpu:g} is more than one GPU with a fraction; give a fraction up to 1 or a whole number"
        )


def check_declared(*, num_cpus: int | None, num_gpus: int | None) -> None:
    """Check what the command line says that this machine has.

    Raises:
        InputError: no CPU, or a negative number of GPUs.

    """
    if num_cpus is not None and num_cpus < 1:
        raise InputError(f"--num-cpus: {num_cpus} is not accepted; give a whole number from 1 up")
    if num_gpus is not None and num_gpus < 0:
        raise InputError(f"--num-gpus: {num_gpus} is not accepted; give a whole number from 0 up")


def kinds_of(request: ResourceRequest, model: str) -> tuple[str, ...]:
    """Return the kinds of accelerator that trials of a model may run on; empty: any machine."""
    return request.accelerators.get(model, ())


def asked_kinds(request: ResourceRequest) -> list[tuple[str, ...]]:
    """Return each choice of kinds that some model is pinned to, once; an empty one stands for any machine."""
    return list(dict.fromkeys(request.accelerators.values())) or [()]


def label_selector(kinds: tuple[str, ...]) -> dict[str, str]:
    """Return the choice of kinds in Ray's words, by a node's labels."""
    if not kinds:
        return {}
    return {ACCELERATOR_LABEL: kinds[0] if len(kinds) == 1 else f"in({','.join(kinds)})"}


def is_of_kind(machine: Node, kinds: tuple[str, ...]) -> bool:
    """Return whether a machine is of one of these kinds; any is where there are none."""
    return not kinds or machine.accelerator in kinds


def all_kinds(request: ResourceRequest) -> tuple[str, ...]:
    """Return the kinds of accelerator that some trial may run on; empty: any machine."""
    if not all(request.accelerators.values()):
        return ()
    return tuple(sorted({kind for kinds in request.accelerators.values() for kind in kinds}))


def check_kinds(request: ResourceRequest, machines: Sequence[Node]) -> None:
    """Check that each model has a machine to run on.

    Raises:
        ExperimentError: no machine is of a kind that was asked for.

    """
    there = {machine.accelerator for machine in machines if machine.accelerator}
    for model, kinds in request.accelerators.items():
        if kinds and not there & set(kinds):
            accepted = (
                f"give one of {', '.join(sorted(there))}, or any"
                if there
                else "none of these machines has one; give any, or leave the key out"
            )
            raise ExperimentError(
                f"resources.accelerator: no machine has {' or '.join(kinds)}, asked for {model}; {accepted}"
            )


def fit(request: ResourceRequest, machines: Sequence[Node]) -> Share:
    """Return what each trial gets on these machines; a worker always runs on one of them.

    Before anything is measured, `gpu: auto` is one whole GPU where there is one, else none; `cpu: auto` is the cores
    that go with that much of a machine's GPUs, or one core. Shares are cut to ten-thousandths, downwards, so that
    three trials at a third of a GPU fit on it.

    Raises:
        ExperimentError: no machine has as much as a trial asks for, or is of the kind that a model is pinned to.

    """
    check_request(request)
    check_kinds(request, machines)
    kinds = all_kinds(request)
    machines = [machine for machine in machines if is_of_kind(machine, kinds)]
    most_gpus = max((machine.gpus for machine in machines), default=0.0)
    most_cpus = max((machine.cpus for machine in machines), default=0.0)
    gpu = request.gpu if request.gpu is not None else float(most_gpus >= 1)
    if gpu > most_gpus:
        there_is = f"the {most_gpus:g} that one machine has here" if most_gpus else "there is: no GPU was found"
        accepted = (
            f"a number up to {most_gpus:g}, or auto" if most_gpus else "0 or auto, or declare GPUs with --num-gpus"
        )
        raise ExperimentError(f"resources.gpu: {gpu:g} is more than {there_is}; give {accepted}")
    cpu = request.cpu if request.cpu is not None else _usual_cpu(gpu, machines)
    if cpu > most_cpus:
        raise ExperimentError(
            f"resources.cpu: {cpu:g} is more than the {most_cpus:g} cores that one machine has here; "
            f"give a number up to {most_cpus:g}"
        )
    if not any(machine.cpus >= cpu and machine.gpus >= gpu for machine in machines):
        raise ExperimentError(
            f"resources: no single machine has {gpu:g} GPUs and {cpu:g} cores; ask for less of one of the two"
        )
    share = Share(cpu=_quantised(cpu), gpu=_quantised(gpu), workers=request.workers, accelerators=kinds)
    if request.workers > 1:
        _check_workers(request, share, machines)
    return share


def _check_workers(request: ResourceRequest, share: Share, machines: Sequence[Node]) -> None:
    """Check that several workers find room together, for each model, and can do what is asked of them."""
    if any(math.isinf(machine.cpus) or math.isinf(machine.gpus) for machine in machines):
        return  # nobody knows yet what there is
    room = min(count_workers(replace(share, accelerators=kinds), machines) for kinds in asked_kinds(request))
    if room < share.workers:
        amount, unit = (share.gpu, "GPU") if share.gpu else (share.cpu, "CPU core")
        each = f"{amount:g} {unit}{'' if amount == 1 else 's'}"
        raise ExperimentError(
            f"resources.workers_per_trial: {share.workers} workers with {each} each find no room here: there is room "
            f"for {room}; give a number up to {room}, or more machines"
        )
    check_request(replace(request, gpu=share.gpu))


def _usual_cpu(gpu: float, machines: Sequence[Node]) -> float:
    """Return the cores of a trial with that much of a GPU: on the machine with fewest a GPU, its part of them."""
    if not gpu:
        return 1.0
    each = [machine.cpus * gpu / machine.gpus for machine in machines if machine.gpus >= gpu]
    known = [cores for cores in each if math.isfinite(cores)]
    return max(1.0, math.floor(min(known, default=1.0)))


def count_places(share: Share, machines: Sequence[Node]) -> int:
    """Return how many trials of that share fit on the machines together, when nothing else runs there.

    Workers of one trial may be on several machines.
    """
    return count_workers(share, machines) // share.workers


def count_workers(share: Share, machines: Sequence[Node]) -> int:
    """Return how many workers of that share fit on the machines together: as many as trials where each has one."""
    return sum(_places(share, machine) for machine in machines)


def _places(share: Share, machine: Node) -> int:
    if not is_of_kind(machine, share.accelerators):
        return 0
    by_cpu = _steps(machine.cpus) // _steps(share.cpu)
    if not share.gpu:
        return by_cpu
    if share.gpu < 1:  # a trial never spans two GPUs
        return min(by_cpu, math.floor(machine.gpus) * (_steps(1) // _steps(share.gpu)))
    return min(by_cpu, _steps(machine.gpus) // _steps(share.gpu))


def _steps(amount: float) -> int:
    return math.floor(amount / STEP + ROUNDING)


def _quantised(amount: float) -> float:
    return round(_steps(amount) * STEP, 4)


def _ray_nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes
