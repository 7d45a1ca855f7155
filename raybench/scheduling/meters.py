"""Processes that measure on one machine, as many at the same time as trials may run there.

In: trials that stand for all with the same model, image size, batch size and precision. Out: how their steps are
computed, and how many images a second several of them train together. The processes are gone afterwards.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench.choices import Solo, Step, step_key
from raybench.records import Allocation, Footprint, Trial, Tuning
from raybench.scheduling.packing import affordable_batch, most_in_memory, next_number

BENCH = "raybench.training.tuning:Bench"
SECONDS = 0.6
"""How long processes train together to be counted."""
ROUNDS = 2
"""How often: the better one counts, since what else runs on the machine only takes away."""
STEP_SECONDS = 0.5
"""On CPUs, where a step of the whole batch would take longer, smaller batches are counted."""
LIMIT_SECONDS = 180
"""After so long without an answer measuring is given up: a model of somebody's own may wait for something."""
POLL_SECONDS = 0.2


class Bench(Protocol):
    """What measures inside a process; see `raybench.training.tuning.Bench`."""

    def __init__(self, trial: Trial, allocation: Allocation) -> None: ...

    @property
    def on_gpu(self) -> bool: ...  # noqa: D102 - see there

    def choose(self) -> Step: ...  # noqa: D102 - see there

    def alone(self, tuning: Tuning, phases: Mapping[str, tuple[Trial, int]]) -> Solo: ...  # noqa: D102 - see there

    def footprints(self, tuning: Tuning, trials: Mapping[str, Trial]) -> dict[str, Footprint]: ...  # noqa: D102 - see there

    def warm_up(self, tuning: Tuning, batch_size: int) -> None: ...  # noqa: D102 - see there

    def images_per_second(self, seconds: float) -> float: ...  # noqa: D102 - see there

    def peak_bytes(self) -> int: ...  # noqa: D102 - see there

    def memory_bytes(self) -> int: ...  # noqa: D102 - see there

    def close(self) -> None: ...  # noqa: D102 - see there


class MeasuringError(Exception):
    """Something could not be measured: the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a process needs to import what the driver imports."""

    import_path: tuple[str, ...]
    directory: Path
    bench: str = BENCH
    """`package.module:Class`."""
    limit_seconds: float = LIMIT_SECONDS
    """How long an answer may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Of the machine, or of the GPU where trials run on one."""

    peak_bytes: int
    """That the process took so far."""
    memory_bytes: int
    """That all processes may take."""


class Meter:
    """One process; a Ray actor that counts for nothing, since no trial runs yet."""

    def __init__(self, origin: Origin) -> None:
        sys.path.extend(entry for entry in origin.import_path if entry not in sys.path)
        if origin.directory.is_dir():
            os.chdir(origin.directory)
        module, _, name = origin.bench.partition(":")
        self._make: type[Bench] = getattr(import_module(module), name)
        self._bench: Bench | None = None

    def ready(self) -> None:
        """Do nothing: the process is there, with all that it imports."""

    def is_on_gpu(self, trial: Trial, allocation: Allocation) -> bool:
        """Return whether trials compute on a GPU that torch sees."""
        return self._fresh(trial, allocation).on_gpu

    def choose(self, trial: Trial, allocation: Allocation) -> Step:
        """Return how the trial's steps are computed soonest."""
        return self._fresh(trial, allocation).choose()

    def alone(
        self, trial: Trial, allocation: Allocation, tuning: Tuning, phases: Mapping[str, tuple[Trial, int]]
    ) -> Solo:
        """Return what phases of trials with the trial's settings take alone."""
        return self._fresh(trial, allocation).alone(tuning, phases)

    def footprints(
        self, trial: Trial, allocation: Allocation, tuning: Tuning, trials: Mapping[str, Trial]
    ) -> dict[str, Footprint]:
        """Return what trials with the trial's settings will take."""
        return self._fresh(trial, allocation).footprints(tuning, trials)

    def warm_up(self, trial: Trial, allocation: Allocation, tuning: Tuning, batch_size: int) -> Memory:
        """Make the first steps, and return what they took."""
        bench = self._fresh(trial, allocation)
        bench.warm_up(tuning, batch_size)
        return Memory(peak_bytes=bench.peak_bytes(), memory_bytes=bench.memory_bytes())

    def images_per_second(self, seconds: float) -> float:
        """Train for so long."""
        if self._bench is None:
            raise RuntimeError("warm_up comes first")
        return self._bench.images_per_second(seconds)

    def _fresh(self, trial: Trial, allocation: Allocation) -> Bench:
        if self._bench is not None:
            self._bench.close()
        self._bench = None
        self._bench = self._make(trial, allocation)
        return self._bench


class Meters:
    """The processes on one machine, started when they are needed; `close` ends them.

    Args:
        node_id: Ray's id of the machine.
        gpu: part of a GPU that each process asks for; 0 where trials run on CPUs.
        origin: where they import from.
        stopped: whether somebody wants the run to end; then KeyboardInterrupt is raised.

    """

    def __init__(self, *, node_id: str, gpu: float, origin: Origin, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        strategy = NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
        self._make: Any = ray.remote(Meter).options(num_cpus=0, num_gpus=gpu, scheduling_strategy=strategy)
        self._origin = origin
        self._meters: list[ActorHandle[Any]] = []

    def seconds_to_start(self) -> float:
        """Return what it takes until a fresh process is ready. Raises MeasuringError."""
        self.close()
        started = time.monotonic()
        with self._whole():
            self._gather([meter.ready.remote() for meter in self._first(1)])
        return time.monotonic() - started

    def on_gpu(self, trial: Trial, allocation: Allocation) -> bool:
        """Return whether trials compute on a GPU that torch sees. Raises MeasuringError."""
        (answer,) = self._gather([meter.is_on_gpu.remote(trial, allocation) for meter in self._first(1)])
        return bool(answer)

    def choose(
        self, trials: Sequence[Trial], allocation: Allocation, *, at_once: int
    ) -> dict[str, Step | MeasuringError]:
        """Return how the steps of each trial are computed soonest, or why that is unknown, by `step_key`."""
        waiting = list(reversed(trials))
        idle = self._first(max(1, min(at_once, len(trials))))
        busy: dict[Any, tuple[str, ActorHandle[Any]]] = {}
        found: dict[str, Step | MeasuringError] = {}
        while waiting or busy:
            while waiting and idle:
                trial, meter = waiting.pop(), idle.pop()
                busy[meter.choose.remote(trial, allocation)] = step_key(trial), meter
            try:
                (done,) = self._wait(list(busy), count=1)
            except MeasuringError as error:
                self.close()
                late = [key for key, _ in busy.values()] + [step_key(trial) for trial in waiting]
                return found | dict.fromkeys(late, error)
            key, meter = busy.pop(done)
            try:
                with _failures():
                    found[key] = ray.get(done)
            except MeasuringError as error:
                found[key] = error
            idle.append(meter)
        return found

    def alone(
        self, trial: Trial, allocation: Allocation, tuning: Tuning, phases: Mapping[str, tuple[Trial, int]]
    ) -> Solo:
        """Return what phases of trials with the trial's settings take alone. Raises MeasuringError."""
        with self._whole():
            meter = self._first(1)[0]
            (solo,) = self._gather([meter.alone.remote(trial, allocation, tuning, phases)])
        measured: Solo = solo
        return measured

    def footprints(
        self, trial: Trial, allocation: Allocation, tuning: Tuning, trials: Mapping[str, Trial]
    ) -> dict[str, Footprint]:
        """Return what trials with the trial's settings will take, in a fresh process. Raises MeasuringError."""
        self.close()
        with self._whole():
            meter = self._first(1)[0]
            (found,) = self._gather([meter.footprints.remote(trial, allocation, tuning, trials)])
        self.close()
        measured: dict[str, Footprint] = found
        return measured

    def slowdown(self, trial: Trial, step: Step, *, allocation: Allocation, number: int) -> float:
        """Return how much longer a step takes in so many processes at once than in one. Raises MeasuringError."""
        batch_size = trial.training.batch_size
        if not allocation.gpu_fraction:
            batch_size = affordable_batch(batch_size, step.images_per_second, seconds=STEP_SECONDS)
        with self._whole():
            meters = self._first(number)
            self._gather([meter.warm_up.remote(trial, allocation, step.tuning, batch_size) for meter in meters])
            alone, together = (
                max(
                    sum(self._gather([meter.images_per_second.remote(SECONDS) for meter in meters[:count]]))
                    for _ in range(ROUNDS)
                )
                for count in (1, number)
            )
        return max(1.0, number * float(alone) / float(together))

    def totals(
        self,
        trial: Trial,
        step: Step,
        *,
        allocation: Callable[[int], Allocation],
        known: Mapping[int, float],
        most: int,
    ) -> dict[int, float]:
        """Return images per second of as many processes together as paid, and of the first number that did not.

        `allocation` says what each of so many gets. Raises MeasuringError where not even one can train.
        """
        totals = dict(known)
        batch_size = trial.training.batch_size
        on_gpu = allocation(1).gpu_fraction > 0
        if not on_gpu:
            batch_size = affordable_batch(batch_size, step.images_per_second, seconds=STEP_SECONDS)
        while (number := next_number(totals, most)) is not None:
            try:
                with self._whole():
                    meters = self._first(number)
                    given = allocation(number)
                    memories: list[Memory] = self._gather(
                        [meter.warm_up.remote(trial, given, step.tuning, batch_size) for meter in meters]
                    )
                    # All are ready, and begin within milliseconds of one another.
                    totals[number] = max(
                        sum(self._gather([meter.images_per_second.remote(SECONDS) for meter in meters]))
                        for _ in range(ROUNDS)
                    )
            except MeasuringError:
                if number == 1:
                    raise
                totals[number] = math.nan
                continue
            peak = max(memory.peak_bytes for memory in memories)
            room = most_in_memory(peak_bytes=peak, memory_bytes=memories[0].memory_bytes, on_gpu=on_gpu)
            following = next_number(totals, most)
            if following is not None and following > room:
                totals[following] = math.nan
        return totals

    def _first(self, count: int) -> list[ActorHandle[Any]]:
        while len(self._meters) < count:
            self._meters.append(self._make.remote(self._origin))
        return self._meters[:count]

    def _gather(self, references: list[Any]) -> list[Any]:
        self._wait(references, count=len(references))
        with _failures():
            results: list[Any] = ray.get(references)
        return results

    def _wait(self, references: list[Any], *, count: int) -> list[Any]:
        """Return the first that have an answer. Raises KeyboardInterrupt, and MeasuringError after too long a time."""
        deadline = time.monotonic() + self._origin.limit_seconds
        while True:
            done, _ = ray.wait(references, num_returns=count, timeout=POLL_SECONDS)
            if len(done) == count:
                return list(done)
            if self._stopped():
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                raise MeasuringError(f"no answer within {self._origin.limit_seconds:g} s")

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """End all processes where one fails, so that the next ones are started anew."""
        try:
            yield
        except MeasuringError:
            self.close()
            raise

    def close(self) -> None:
        """End the processes."""
        for meter in self._meters:
            ray.kill(meter)
        self._meters.clear()


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what a process raises, or that it was lost, into a `MeasuringError`."""
    try:
        yield
    except RayTaskError as error:
        raise MeasuringError(str(error.cause)) from error
    except RayError as error:
        lines = str(error).strip().splitlines()
        raise MeasuringError(lines[-1] if lines else type(error).__name__) from error
