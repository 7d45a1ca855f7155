"""One trial by several workers: Ray Train starts them, and this process stands between them and Ray Tune.

In: a trial, what each worker holds, and a function that is told each epoch and answers what to do. Out: the trial's
result, once all workers have ended and hold nothing any more.

    Ray Tune's process of the trial      run_gang: reports epochs, asks the desk, writes the row of one that failed
      a `Line`                           a zero-CPU actor, through which the workers talk to that process
      Ray Train's controller             makes one placement group for all workers, or waits: never for half of them
        rank 0 .. N - 1                  train in torch's process group; rank 0 alone tells epochs and writes

A trial of several workers ends as others do, by itself: rank 0 hears the decision and tells the others. A rank that
raises tells why first; Ray Train then ends the others. Where a rank was lost the whole trial counts as lost, and is
begun again from its checkpoint. Nobody waits for ever: whoever is gone is noticed within seconds, and one that is
silent within `SILENT_SECONDS`.
"""

import os
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench.errors import RaybenchError, StorageError
from raybench.mirror import run_folder
from raybench.process_memory import memory_watch
from raybench.records import Allocation, EpochRecord, Trial, TrialResult, Verdict
from raybench.scheduling.line import Line
from raybench.scheduling.resources import Share, label_selector
from raybench.scheduling.worker import (
    LAST_WORDS_SECONDS,
    OnEpoch,
    Shared,
    allocation_of,
    desk_of,
    error_text,
    is_lack_of_memory,
    prepare_process,
    train_here,
)

SILENT_SECONDS = 1800
"""How long a rank waits for another one that is there: one may be decoding a dataset that the others find decoded."""
LOOK_SECONDS = 0.5
"""How often Ray Train looks after its workers; its own 2 s are what a lost rank, and each trial's end, would take."""
LAST_LOOK_SECONDS = 1.0
"""How long messages are waited for once all workers have ended."""
MOST_STARTS = 3
"""Times that Ray Train tries again to start workers that end while they are being started."""
WAITING_SECONDS = 10 * 86400
"""How long workers may wait for room; Ray Train's own minute would send them to the end of the queue each time."""
ENDING_SECONDS = 30
"""How long workers may take to end that nobody listens to any more."""
TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(LOOK_SECONDS),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(WAITING_SECONDS),
    "RAY_TRAIN_METRICS_ENABLED": "0",  # for Ray's dashboard
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a lost machine is noticed all the same
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in an experiment start from the driver's working directory
}
BACKENDS = {False: "gloo", True: "cpu:gloo,cuda:nccl"}
"""Of torch's process group, by whether trials run on GPUs: figures and decisions go from CPU to CPU either way."""


class LostWorkerError(RayError):
    """A worker of a trial is gone; the trial is begun again from its checkpoint."""


class WorkerError(RaybenchError):
    """A worker of a trial raised something."""

    def __init__(self, text: str, allocation: Allocation) -> None:
        super().__init__(text)
        self.text = text
        """What it raised and where, as `error_text` gives it."""
        self.allocation = allocation


class Cause(Enum):
    """Why a rank ended early."""

    ERROR = "it raised an error of its own"
    STORAGE = "it could not write"
    MEMORY = "it lacked memory"
    PEER = "another rank was gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A rank is there."""

    node_id: str
    """Ray's."""
    placement_group: str
    """Ray's id of what the ranks hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AllBegun:
    """All ranks of a trial are there."""

    nodes: Mapping[str, int]
    """How many on each node, by Ray's id."""
    placement_group: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A rank is about to end early."""

    cause: Cause
    text: str
    allocation: Allocation


Message = Begun | Failure | EpochRecord | TrialResult


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What every rank is given."""

    trial: Trial
    shared: Shared
    share: Share
    retries: int
    line: ActorHandle[Any]


def run_gang(
    trial: Trial,
    *,
    shared: Shared,
    share: Share,
    retries: int,
    on_begun: Callable[[AllBegun], None],
    on_epoch: OnEpoch,
) -> TrialResult:
    """Train a trial by several workers, each of which holds the share.

    `on_begun` is told once all of them are there.

    Raises:
        LostWorkerError: a worker is gone, or took more memory than it may.
        StorageError: the first one could not write.
        WorkerError: a worker raised something else.

    """
    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    line: Any = ray.remote(Line).options(num_cpus=0, scheduling_strategy=here).remote()
    work = _Work(trial=trial, shared=shared, share=share, retries=retries, line=line)
    with TemporaryDirectory(prefix="raybench-train-", ignore_cleanup_errors=True) as scratch:
        crew = _Crew(work, scratch)
        try:
            return _Attention(work, on_begun=on_begun, on_epoch=on_epoch).until_ended(crew)
        finally:
            ray.kill(line)  # a rank that still asks ends by it, and with it the others
            crew.join(ENDING_SECONDS)


class _Crew(threading.Thread):
    """Ray Train's workers of one trial, as long as they are there, in a thread: Ray Tune has its own."""

    def __init__(self, work: _Work, scratch: str) -> None:
        super().__init__(name="raybench-gang", daemon=True)
        self.error: Exception | None = None
        """What Ray Train raised in the end."""
        self._work = work
        self._scratch = scratch
        self.start()

    def run(self) -> None:
        """Start the workers and wait for their end."""
        try:
            _trainer(self._work, self._scratch).fit()
        except Exception as error:  # noqa: BLE001 - looked at by whoever waits for the end
            self.error = error

    def lost(self) -> bool:
        """Return whether a worker, or what looks after them, is gone; where it only raised an error it is not."""
        from ray.train.v2._internal.exceptions import (  # noqa: PLC0415 - Ray Train takes seconds; it has no public name for them
            WorkerHealthCheckFailedError,
            WorkerHealthCheckTimeoutError,
        )

        failures: Mapping[int, Exception] = getattr(self.error, "worker_failures", {})
        gone = (RayError, WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError)
        return any(isinstance(failure, gone) for failure in failures.values())


class _Attention:
    """What a trial's process hears from its workers."""

    def __init__(self, work: _Work, *, on_begun: Callable[[AllBegun], None], on_epoch: OnEpoch) -> None:
        self._work = work
        self._on_begun = on_begun
        self._on_epoch = on_epoch
        self._nodes: Counter[str] = Counter()
        self._failure: Failure | None = None
        self._result: TrialResult | None = None

    def until_ended(self, crew: _Crew) -> TrialResult:
        """Listen and answer until all workers have ended; raise as `run_gang` does."""
        line = self._work.line
        message: Any = line.take.remote()
        while True:
            ended = not crew.is_alive()  # before looking: what was told before the end is there then
            ready, _ = ray.wait([message], timeout=LAST_LOOK_SECONDS)
            if ready:
                self._hear(pickle.loads(ray.get(message)))  # noqa: S301 - from a worker of this trial
                message = line.take.remote()
            elif ended:
                return self._outcome(crew)

    def _hear(self, message: Message) -> None:
        match message:
            case EpochRecord():
                self._work.line.answer.remote(str(self._on_epoch(message)))
            case Begun():
                self._nodes[message.node_id] += 1
                if self._nodes.total() == self._work.share.workers:
                    self._on_begun(AllBegun(nodes=dict(self._nodes), placement_group=message.placement_group))
            case Failure():
                # The first that is no consequence of another.
                if self._failure is None or self._failure.cause is Cause.PEER:
                    self._failure = message
            case TrialResult():
                self._result = message

    def _outcome(self, crew: _Crew) -> TrialResult:
        if self._result is not None:
            return self._result
        failure = self._failure
        if crew.lost() or failure is None or failure.cause in {Cause.MEMORY, Cause.PEER}:
            raise LostWorkerError(str(crew.error) if failure is None else failure.text)
        if failure.cause is Cause.STORAGE:
            raise StorageError(failure.text)
        raise WorkerError(failure.text, failure.allocation)


def _trainer(work: _Work, scratch: str) -> Any:  # noqa: ANN401 - a TorchTrainer, which is imported here alone
    os.environ.update(TRAIN_ENVIRONMENT)
    from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415 - takes seconds, and imports torch
    from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415

    share = work.share
    return TorchTrainer(
        _run_rank,
        train_loop_config={"work": work},
        torch_config=TorchConfig(backend=BACKENDS[share.gpu > 0], timeout_s=SILENT_SECONDS),
        scaling_config=ScalingConfig(  # type: ignore[call-arg] # declared as an earlier one
            num_workers=share.workers,
            use_gpu=share.gpu > 0,
            resources_per_worker=share.bundle,
            label_selector=label_selector(share.accelerators) or None,
        ),
        run_config=RunConfig(
            name="trial",
            storage_path=scratch,
            # The whole trial is begun again, as others are.
            failure_config=FailureConfig(  # type: ignore[call-arg] # declared as the one of Ray Tune
                max_failures=0, max_preemption_failures=0, controller_failure_limit=MOST_STARTS
            ),
        ),
    )


def _run_rank(config: Mapping[str, Any]) -> None:
    """Train as one rank; Ray Train calls this in each worker, in a process group that it has set up."""
    from ray.train import get_context  # noqa: PLC0415 - see above

    work: _Work = config["work"]
    shared, trial, held = work.shared, work.trial, work.share.bundle
    rank = get_context().get_world_rank()
    prepare_process(shared)
    allocation = allocation_of(shared, trial, retries=work.retries, held=held, rank=rank)
    group: Any = ray.util.get_current_placement_group()
    _tell(work, Begun(node_id=ray.get_runtime_context().get_node_id(), placement_group=group.id.hex()))

    def on_epoch(record: EpochRecord) -> Verdict:
        answer: Any = ray.get(work.line.ask.remote(pickle.dumps(record)))
        return Verdict(answer)

    try:
        result = train_here(
            trial,
            shared=shared,
            run_dir=run_folder(shared.run_dir),
            allocation=allocation,
            held=held,
            on_epoch=on_epoch,
        )
    except Exception as error:
        with suppress(RayError):  # nobody listens any more
            _tell(work, _failure(work, error, allocation))
        raise
    if rank == 0:
        _tell(work, result)


def _failure(work: _Work, error: Exception, allocation: Allocation) -> Failure:
    """Return why this rank ends; of one that lacks memory the desk hears what it had."""
    cause, text = Cause.ERROR, error_text(error)
    if isinstance(error, StorageError):
        cause, text = Cause.STORAGE, str(error)
    elif is_lack_of_memory(error):
        cause = Cause.MEMORY
        told: Any = desk_of(work.shared.desk).outgrow.remote(work.trial.trial_id, memory_watch().peak_bytes())
        ray.get(told, timeout=LAST_WORDS_SECONDS)
    elif isinstance(error, RayError) or _is_lost_peer(error):
        cause = Cause.PEER
    return Failure(cause=cause, text=text, allocation=allocation)


def _is_lost_peer(error: Exception) -> bool:
    from raybench.training.distributed import is_lost_peer  # noqa: PLC0415 - torch, which is there by now

    return is_lost_peer(error)


def _tell(work: _Work, message: Message) -> None:
    ray.get(work.line.tell.remote(pickle.dumps(message)))
