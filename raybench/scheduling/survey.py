"""What is measured on one kind of machine: recalled where it was measured before, kept where it is new.

In: a machine, and trials by their kind of training step. Out: a `Step` of each kind, and how many trials run at once.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Self, TypeVar

import ray
from pydantic import TypeAdapter, ValidationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench.choices import About, Solo, Step, measured_by, recall, remember, step_key
from raybench.events import Notice
from raybench.pace import pace_keys
from raybench.records import Allocation, Footprint, Inference, Pace, Trial, Tuning
from raybench.scheduling.meters import MeasuringError, Meters, Origin
from raybench.scheduling.packing import best_number, next_number
from raybench.scheduling.resources import Node

MOST_ON_A_GPU = 4
"""Trials: processes that share a GPU take turns, and each keeps some of its memory for itself."""
MOST_PROCESSES = 8
"""That compare layouts and precisions of different models at the same time."""
Value = TypeVar("Value")
_STEP = TypeAdapter(Step)
_TOTALS = TypeAdapter(dict[int, float])
_PACE = TypeAdapter(Pace)
_SECONDS = _SLOWDOWN = TypeAdapter(float)
_INFERENCE = TypeAdapter(Inference)
_FOOTPRINT = TypeAdapter(Footprint)


class Survey:
    """Measures on one machine, as a context manager; processes are started when something has to be measured.

    Args:
        name: of its processor, or of its GPUs where trials run on these.
        machine: where.
        on_gpus: whether trials ask for GPUs.
        origin: where processes import from.
        tell: told what is being measured, and what could not be.
        stopped: whether somebody wants the run to end; then KeyboardInterrupt is raised.

    """

    def __init__(
        self,
        *,
        name: str,
        machine: Node,
        on_gpus: bool,
        origin: Origin,
        tell: Callable[[Notice], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._name = name
        self._machine = machine
        self._gpus = machine.gpus if on_gpus else 0.0
        self._meters = Meters(
            node_id=machine.node_id, gpu=1 / MOST_ON_A_GPU if on_gpus else 0, origin=origin, stopped=stopped
        )
        self._tell = tell
        self._found: dict[tuple[str, int], Step | None] = {}
        """By key and threads that count; None: it could not be measured."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._meters.close()

    def steps(self, trials: Mapping[str, Trial], *, threads: int) -> dict[str, Step]:
        """Return how the steps of each kind are computed soonest with so many threads; those that fail are left out."""
        count = self._threads_that_count(threads)
        missing = []
        for key, trial in trials.items():
            if (key, count) not in self._found:
                kept = self._recalled(self._about_step(key, count), _STEP)
                if kept is None:
                    missing.append(trial)
                else:
                    self._found[key, count] = kept
        if missing:
            self._measure_steps(missing, threads)
        return {key: step for key in trials if (step := self._found[key, count]) is not None}

    def number(self, trial: Trial, step: Step, *, most: int) -> int | None:
        """Return how many trials to run at once, on each GPU or on the machine's cores, at most so many.

        None where it cannot be measured, or where torch sees no GPU although trials ask for one.
        """
        if most == 1:
            return 1
        about = self._about_totals(step_key(trial))
        kept = self._recalled(about, _TOTALS) or {}
        totals = {number: total for number, total in kept.items() if number <= most}
        if next_number(totals, most) is None:
            return best_number(totals)
        try:
            if self._gpus and not self._meters.on_gpu(trial, self._allocation(1)):
                return None
            self._tell(Notice(text=f"Measuring how many trials to run at once, by {trial.model.name}"))
            totals = self._meters.totals(trial, step, allocation=self._allocation, known=totals, most=most)
        except MeasuringError as error:
            self._tell(Notice(text=f"How many trials to run at once could not be measured: {error}", lasting=True))
            return None
        self._keep(about, _TOTALS.dump_python({**kept, **totals}))
        return best_number(totals)

    def solo(self, trials: Iterable[Trial], steps: Mapping[str, Step], *, threads: int) -> Solo | None:
        """Return what the phases of trials that share a `step_key` take alone with so many threads, and prediction.

        None where that cannot be measured.
        """
        phases = {key: (trial, place) for trial in trials for place, key in enumerate(pace_keys(trial))}
        trial = next(iter(phases.values()))[0]
        step = steps.get(step_key(trial))
        tuning = Tuning() if step is None else step.tuning
        about = {key: self._about_solo(key, threads, tuning) for key in phases}
        found = {key: pace for key in phases if (pace := self._recalled(about[key], _PACE)) is not None}
        of_inference = self._about_solo(step_key(trial), threads, tuning)
        inference = self._recalled(of_inference, _INFERENCE)
        missing = {key: phase for key, phase in phases.items() if key not in found}
        if inference is not None and not missing:
            return Solo(paces=found, inference=inference)
        self._tell(Notice(text=f"Measuring what {trial.model.name} takes alone"))
        try:
            solo = self._meters.alone(trial, replace(self._allocation(1), threads=threads), tuning, missing)
        except MeasuringError as error:
            self._tell(
                Notice(
                    text=f"{step_key(trial)}: what it takes alone could not be measured, so its cost stays unknown: "
                    f"{error}",
                    lasting=True,
                )
            )
            return None
        for key, pace in solo.paces.items():
            self._keep(about[key], _PACE.dump_python(pace))
        self._keep(of_inference, _INFERENCE.dump_python(solo.inference))
        return Solo(paces={**found, **solo.paces}, inference=solo.inference)

    def footprints(self, trials: Mapping[str, Trial], step: Step, *, threads: int) -> dict[str, Footprint]:
        """Return what trials that share a `step_key` will take, by keys of theirs, as far as it can be measured."""
        about = {key: self._about_memory(key, threads, step.tuning) for key in trials}
        found = {key: kept for key in trials if (kept := self._recalled(about[key], _FOOTPRINT)) is not None}
        missing = {key: trial for key, trial in trials.items() if key not in found}
        if not missing:
            return found
        trial = next(iter(missing.values()))
        self._tell(Notice(text=f"Measuring how much memory {trial.model.name} takes"))
        allocation = replace(self._allocation(1), threads=threads)
        try:
            measured = self._meters.footprints(trial, allocation, step.tuning, missing)
        except MeasuringError as error:
            self._tell(Notice(text=f"{step_key(trial)}: its memory could not be measured: {error}", lasting=True))
            return found
        for key, each in measured.items():
            self._keep(about[key], _FOOTPRINT.dump_python(each))
        return found | measured

    def worker_seconds(self) -> float | None:
        """Return what it takes until a fresh process can train; measured before anything else. None: it never could."""
        about: About = {"what": "worker start", "on": self._name, **measured_by()}
        known = self._recalled(about, _SECONDS)
        if known is None:
            try:
                known = self._meters.seconds_to_start()
            except MeasuringError:
                return None
            self._keep(about, known)
        return known

    def slowdown(self, trial: Trial, step: Step, *, number: int, measure: bool) -> float | None:
        """Return how much longer the trial's steps take beside so many others, itself counted, on one machine or GPU.

        None where it is not known and not to be measured, or cannot be.
        """
        if number == 1:
            return 1.0
        about = {**self._about_totals(step_key(trial)), "what": "slowdown", "number": number}
        known = self._recalled(about, _SLOWDOWN)
        if known is not None or not measure:
            return known
        self._tell(Notice(text=f"Measuring how {number} trials at once slow each other down: {trial.model.name}"))
        try:
            found = self._meters.slowdown(trial, step, allocation=self._allocation(number), number=number)
        except MeasuringError:
            return None
        self._keep(about, found)
        return found

    def _measure_steps(self, trials: list[Trial], threads: int) -> None:
        names = ", ".join(dict.fromkeys(trial.model.name for trial in trials))
        self._tell(Notice(text=f"Measuring how training is fastest: {names}"))
        at_once = 1 if self._gpus else max(1, min(int(self._machine.cpus // threads), MOST_PROCESSES, len(trials)))
        allocation = replace(self._allocation(at_once), threads=threads)
        count = self._threads_that_count(threads)
        for key, step in self._meters.choose(trials, allocation, at_once=at_once).items():
            if isinstance(step, MeasuringError):
                self._found[key, count] = None
                self._tell(
                    Notice(text=f"{key}: could not be measured, so it is trained as is usual: {step}", lasting=True)
                )
            else:
                self._found[key, count] = step
                self._keep(self._about_step(key, count), _STEP.dump_python(step))

    def _allocation(self, number: int) -> Allocation:
        """Return what each of so many trials gets, on every GPU or on the machine's cores."""
        share = 1 / number / max(self._gpus, 1)
        return Allocation(
            cpu_share=share,
            gpu_fraction=1 / number if self._gpus else 0,
            threads=max(1, math.floor(self._machine.cpus * share)),
        )

    def _threads_that_count(self, threads: int) -> int:
        """Return what a choice depends on: 0 on a GPU, so that trials compute the same whatever their share of it.

        There, threads change a step by less than measurements differ, and a choice changes every number of a trial.
        """
        return 0 if self._gpus else threads

    def _about_step(self, key: str, threads: int) -> About:
        return {"what": "step", "on": self._name, "threads": threads, "step": key, **measured_by()}

    def _about_solo(self, key: str, threads: int, tuning: Tuning) -> About:
        return {**self._about_step(key, threads), **asdict(tuning), "what": "alone"}

    def _about_memory(self, key: str, threads: int, tuning: Tuning) -> About:
        return {**self._about_solo(key, threads, tuning), "what": "memory", "gpus": min(self._gpus, 1)}

    def _about_totals(self, key: str) -> About:
        machine = {"cores": self._machine.cpus, "gpus": self._gpus}
        return {"what": "trials at once", "on": self._name, **machine, "step": key, **measured_by()}

    def _recalled(self, about: About, kind: TypeAdapter[Value]) -> Value | None:
        """Return what was measured on such a machine before, as far as this one knows, or learns from that one."""
        with contextlib.suppress(ValidationError):
            return kind.validate_python(recall(about))
        if is_here(self._machine):
            return None
        with contextlib.suppress(ValidationError):
            known = on_machine(self._machine, recall, about)
            found = kind.validate_python(known)
            remember(about, known)
            return found
        return None

    def _keep(self, about: About, value: object) -> None:
        """Keep what was measured here, for machines that come and go, and there, for runs that are started there."""
        remember(about, value)
        if not is_here(self._machine):
            on_machine(self._machine, remember, about, value)


def is_here(machine: Node) -> bool:
    """Return whether a machine is the one of this process."""
    here: str = ray.get_runtime_context().get_node_id()
    return machine.node_id == here


def on_machine(machine: Node, function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what it returns
    """Call a function on a machine: here where that is this one."""
    if is_here(machine):
        return function(*arguments)
    there = NodeAffinitySchedulingStrategy(node_id=machine.node_id, soft=False)
    call = ray.remote(_call).options(num_cpus=0, scheduling_strategy=there)
    return ray.get(call.remote(function, *arguments))


def _call(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what it returns
    return function(*arguments)
