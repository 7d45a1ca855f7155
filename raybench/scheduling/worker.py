"""What every process that trains does, whether it trains a trial alone or is one of several workers.

In: what all trials of a run share, and a trial. Out: the trial trained here, with what this process was given of its
machine, and ended by its own guard before it takes more memory than that.
"""

import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle

from raybench.checkpoint_paths import row_path, state_path
from raybench.choices import Step, memory_key, processor_name, step_key
from raybench.mirror import bring
from raybench.pace import pace_keys
from raybench.process_memory import memory_watch, usable_bytes
from raybench.records import Allocation, EpochRecord, Footprint, Inference, Pace, Trial, TrialResult, Verdict
from raybench.scheduling.decisions import find_desk
from raybench.scheduling.resources import INSTANCE_LABEL, Share, device_name, device_share, node

CLEANUP_SECONDS = 60
"""How long a trial may take to leave its process to the next one; Ray Tune's 2 s fail the next trial on a slow disk."""
LAST_WORDS_SECONDS = 2
"""How long a process that takes too much memory waits until somebody has heard why it ends."""
OUT_OF_MEMORY = frozenset({"torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError"})
CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""In the message of torch's RuntimeError."""
ERROR_LINES = 6
"""Of a traceback, kept in the row: where it happened and what was raised."""

OnEpoch = Callable[[EpochRecord], Verdict]


class Execute(Protocol):
    """Trains a trial, or goes on with it, writes its rows and returns them; see `raybench.training.execute.run`.

    It calls `on_epoch` for every epoch of the trial in order, those that a checkpoint holds included, and does what the
    answer says.
    """

    def __call__(self, trial: Trial, *, run_dir: Path, allocation: Allocation, on_epoch: OnEpoch) -> TrialResult:
        """Train the trial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What every trial of a run gets. Ray Tune unpickles it for each trial: nothing here may grow with their number."""

    run_dir: str
    """What `raybench.mirror.run_folder` finds it by, on any machine."""
    share: Share
    """The least that a trial holds."""
    steps: Mapping[str, Mapping[str, Step]]
    """How training steps are computed: by `device_name`, then by `step_key`; as is usual where there is none."""
    paces: Mapping[str, Mapping[str, Pace]]
    """What phases take alone: by `device_name`, then by `pace_key`."""
    inference: Mapping[str, Mapping[str, Inference]]
    """How fast models predict alone: by `device_name`, then by `step_key`."""
    footprints: Mapping[str, Footprint]
    """What trials are expected to take, by `memory_key`."""
    memory_bytes: int | None
    """Most of each machine's memory that trials may take together; None: of what it has, all but a reserve."""
    price_per_hour_usd: Mapping[str, float]
    """Of a whole machine, by instance type."""
    cache_limit_bytes: int | None
    """Most that a machine's cache folder may hold; None: what its disk holds."""
    several_machines: bool
    """Whether there are others than the driver's, or may come."""
    desk: str
    """Name of the actor that answers whether a trial ends."""
    accelerators: Mapping[str, tuple[str, ...]]
    """Kinds that trials of a model may run on, by the model's name; any where there is none."""
    execute: str
    """`package.module:function` that trains one trial."""
    import_path: tuple[str, ...]
    """Where the driver imports from."""
    directory: Path
    """Working directory of the driver, which relative paths start from."""


def prepare_process(shared: Shared) -> None:
    """Import what the driver imports, from where it does, and start relative paths where it does."""
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(CLEANUP_SECONDS)
    sys.path.extend(entry for entry in shared.import_path if entry not in sys.path)
    if shared.directory.is_dir():
        os.chdir(shared.directory)


@cache
def desk_of(name: str) -> ActorHandle[Any]:
    """Look the desk up once a process."""
    return find_desk(name)


def train_here(
    trial: Trial,
    *,
    shared: Shared,
    run_dir: Path,
    allocation: Allocation,
    held: Mapping[str, float],
    on_epoch: OnEpoch,
) -> TrialResult:
    """Train a trial in this process, which Ray keeps so much for; one that takes more memory ends by SIGKILL.

    Raises whatever training raises.
    """

    def outgrown(memory_bytes: int) -> None:
        with suppress(Exception):
            told: Any = desk_of(shared.desk).outgrow.remote(trial.trial_id, memory_bytes)
            ray.get(told, timeout=LAST_WORDS_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)  # before the machine runs out: the kernel might choose a neighbour

    bring(row_path(run_dir, trial.trial_id))
    bring(state_path(run_dir, trial.trial_id))
    with memory_watch().limited(_memory_limit_bytes(shared, held), outgrown):
        return _resolve(shared.execute)(trial, run_dir=run_dir, allocation=allocation, on_epoch=on_epoch)


def allocation_of(
    shared: Shared, trial: Trial, *, retries: int, held: Mapping[str, float], rank: int = 0
) -> Allocation:
    """Return what the trial was given, as this process sees it, which Ray keeps so much for."""
    context = ray.get_runtime_context()
    here = node(context.get_node_id())
    labels: Mapping[str, Any] = context.get_node_labels()  # Ray declares lists but gives strings
    instance_type: str | None = labels.get(INSTANCE_LABEL)
    share = shared.share
    device = device_name(here, on_gpus=share.gpu > 0, processor=processor_name)
    step = shared.steps.get(device, {}).get(step_key(trial))
    paces = shared.paces.get(device, {})
    return Allocation(
        cpu_share=share.workers * share.cpu / here.cpus,
        gpu_fraction=share.workers * share.gpu,
        gpu_memory_share=held.get("GPU") if 0 < share.gpu < 1 else None,
        footprint=shared.footprints.get(memory_key(trial)),
        threads=share.threads,
        workers=share.workers,
        rank=rank,
        retries=retries,
        node=platform.node(),
        instance_type=instance_type,
        price_per_hour_usd=shared.price_per_hour_usd.get(instance_type or ""),
        cache_limit_bytes=shared.cache_limit_bytes,
        several_machines=shared.several_machines,
        tuning=None if step is None else step.tuning,
        device_share=device_share(share, here),
        paces={key: paces[key] for key in pace_keys(trial) if key in paces},
        inference=shared.inference.get(device, {}).get(step_key(trial)),
    )


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed: of torch's errors the name tells, since torch is not imported here."""
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    return isinstance(error, MemoryError) or bool(names & OUT_OF_MEMORY) or CPU_OUT_OF_MEMORY in str(error)


def error_text(error: BaseException) -> str:
    """Return `Type: message` and, below it, the last lines of where it was raised."""
    head = "".join(traceback.format_exception_only(error)).strip()
    where = "".join(traceback.format_tb(error.__traceback__)).rstrip().splitlines()[-ERROR_LINES:]
    return "\n".join([head, *where])


def _memory_limit_bytes(shared: Shared, held: Mapping[str, float]) -> int:
    """Return what this process may take of its machine's memory: its part, as far as nobody else holds it."""
    whole = usable_bytes() if shared.memory_bytes is None else shared.memory_bytes
    here = node(ray.get_runtime_context().get_node_id())
    part = held.get("GPU", 0.0) / here.gpus if shared.share.gpu else held["CPU"] / here.cpus
    return int(whole * min(1.0, part))


def _resolve(name: str) -> Execute:
    module, _, function = name.partition(":")
    execute: Execute = getattr(import_module(module), function)
    return execute
