"""What a run settles before its first trial: how many trials run at once, and how their models are computed.

In: the trials to run, what the experiment asks for, the machines that Ray has, and what earlier runs chose. Out: the
share of each trial, and the `Choices` that the run keeps.

What an earlier run of the same directory chose holds; then what was measured on such a machine before; the rest is
measured now, on one machine of each kind. Whatever cannot be measured stays as is usual, and the run goes on.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from raybench.choices import Choices, Step, memory_key, processor_name, step_key
from raybench.errors import ExperimentError
from raybench.events import Notice
from raybench.pace import pace_keys
from raybench.records import Footprint, Pace, ResourceRequest, Trial
from raybench.scheduling.meters import Origin
from raybench.scheduling.resources import (
    Node,
    Share,
    count_places,
    count_workers,
    device_name,
    fit,
    is_of_kind,
    kinds_of,
)
from raybench.scheduling.survey import MOST_ON_A_GPU, Survey, on_machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What trials get, and how they compute."""

    share: Share
    choices: Choices
    device: str | None = None
    """Name of the machines' processor or GPU, of the largest kind that has room for a trial; None where none has."""
    worker_seconds: float | None = None
    """Until a fresh process can train; None where that was not measured."""


def unmeasured(request: ResourceRequest, machines: Sequence[Node], earlier: Choices) -> Settled:
    """Return what trials get where nothing is to be measured. Raises ExperimentError."""
    share = fit(request, machines)
    chosen = _choices(share, None, earlier.steps)
    kept = replace(chosen, paces=earlier.paces, inference=earlier.inference, memory=earlier.memory)
    return Settled(share=share, choices=kept)


def settle(
    trials: Sequence[Trial],
    *,
    request: ResourceRequest,
    machines: Sequence[Node],
    earlier: Choices,
    origin: Origin,
    tell: Callable[[Notice], None],
    stopped: Callable[[], bool],
    neighbours: bool = False,
) -> Settled:
    """Return what trials get, measured where the experiment and earlier runs leave it open.

    Args:
        trials: those that will run.
        request: what the experiment asks for each.
        machines: that Ray has.
        earlier: what an earlier run of this run directory chose.
        origin: where processes that measure import from.
        tell: told what is being measured, and what was chosen.
        stopped: whether somebody wants the run to end.
        neighbours: whether to measure too how trials that run at once slow each other down.

    Raises:
        ExperimentError: no machine has as much as a trial asks for.
        KeyboardInterrupt: somebody wants the run to end.

    """
    share = fit(request, machines)
    steps = {name: dict(known) for name, known in earlier.steps.items()}
    paces = {name: dict(known) for name, known in earlier.paces.items()}
    inference = {name: dict(known) for name, known in earlier.inference.items()}
    slowdown = {name: dict(known) for name, known in earlier.slowdown.items()}
    memory = {name: dict(known) for name, known in earlier.memory.items()}
    measured_on = worker_seconds = None
    kinds = _kinds(machines, share)
    for place, (name, alike) in enumerate(kinds.items()):
        machine = alike[0]
        known = steps.setdefault(name, {})
        own = [each for each in trials if any(is_of_kind(one, kinds_of(request, each.model.name)) for one in alike)]
        by_key = _by_key(own)
        asked = {key: trial for key, trial in by_key.items() if key not in known}
        with Survey(
            name=name, machine=machine, on_gpus=share.gpu > 0, origin=origin, tell=tell, stopped=stopped
        ) as survey:
            if place == 0 and neighbours:
                worker_seconds = survey.worker_seconds()
            if place == 0 and _is_open(request, share, machine):
                kept = _kept(request, earlier, name, machines)
                packed = kept or _packed(
                    request, share, machine=machine, machines=machines, trials=by_key, known=known, survey=survey
                )
                measured_on = name if packed else None
                share = packed or share
            known |= survey.steps(asked, threads=share.threads)
            for key, group in _by_step(own, paces.setdefault(name, {})).items():
                solo = survey.solo(group, known, threads=share.threads)
                if solo is not None:
                    paces[name] |= solo.paces
                    inference.setdefault(name, {})[key] = solo.inference
            memory[name] = _footprints(own, memory.get(name, {}), steps=known, survey=survey, threads=share.threads)
            number = _at_once(share, machine)
            for key, trial in by_key.items():
                if key in known and key not in slowdown.setdefault(name, {}):
                    longer = survey.slowdown(trial, known[key], number=number, measure=neighbours)
                    slowdown[name] |= {} if longer is None else {key: longer}
    tell(Notice(text=choice_text(share, machines, _by_key(trials).values(), steps), lasting=True))
    chosen = replace(
        _choices(share, measured_on, steps), paces=paces, inference=inference, slowdown=slowdown, memory=memory
    )
    device = next(iter(kinds), None)
    return Settled(share=share, choices=chosen, device=device, worker_seconds=worker_seconds)


def _by_key(trials: Iterable[Trial]) -> dict[str, Trial]:
    """Return one trial of each kind of training step."""
    found: dict[str, Trial] = {}
    for trial in trials:
        found.setdefault(step_key(trial), trial)
    return found


def choice_text(
    share: Share, machines: Sequence[Node], trials: Iterable[Trial], steps: Mapping[str, Mapping[str, Step]]
) -> str:
    """Return in one line how many trials run at once, and what was chosen for which model."""
    number = count_places(share, machines)
    several = share.workers > 1
    threads = f"{share.threads} thread{'' if share.threads == 1 else 's'}{' each' if number > 1 or several else ''}"
    parts = [f"{number} trial{'' if number == 1 else 's'} at once, {threads}"]
    if several:
        parts[0] = f"{number} trial{'' if number == 1 else 's'} at once of {share.workers} workers, {threads}"
    names: dict[str, dict[str, None]] = {}
    for trial in trials:
        for known in steps.values():
            step = known.get(step_key(trial))
            ways = [] if step is None else _ways(step, trial)
            if ways:
                names.setdefault(" and ".join(ways), {})[f"{trial.model.name} at {trial.dataset.image_size} px"] = None
    parts += [f"{ways} for {', '.join(of)}" for ways, of in names.items()]
    return "; ".join(parts)


def _ways(step: Step, trial: Trial) -> list[str]:
    bfloat16 = step.tuning.bfloat16 and trial.training.precision == "auto"
    return ["channels last"] * step.tuning.channels_last + ["bfloat16"] * bfloat16


def _by_step(trials: Iterable[Trial], known: Mapping[str, Pace]) -> dict[str, list[Trial]]:
    """Return trials whose phases stand for all phases without a known pace, by `step_key`."""
    seen = set(known)
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        keys = set(pace_keys(trial))
        if not keys <= seen:
            seen |= keys
            groups.setdefault(step_key(trial), []).append(trial)
    return groups


def _footprints(
    trials: Iterable[Trial],
    known: Mapping[str, Footprint],
    *,
    steps: Mapping[str, Step],
    survey: Survey,
    threads: int,
) -> dict[str, Footprint]:
    """Return what trials will take, by `memory_key`: what is known, and what can be measured."""
    groups: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        if memory_key(trial) not in known and step_key(trial) in steps:
            groups.setdefault(step_key(trial), {}).setdefault(memory_key(trial), trial)
    found = dict(known)
    for key, group in groups.items():
        found |= survey.footprints(group, steps[key], threads=threads)
    return found


def _at_once(share: Share, machine: Node) -> int:
    """Return how many trials run at once on a machine's cores, or on one of its GPUs."""
    places = count_workers(share, [machine])
    return max(1, math.ceil(places / machine.gpus)) if share.gpu else places


def _kinds(machines: Sequence[Node], share: Share) -> dict[str, list[Node]]:
    """Return the machines of each kind that have room for a worker, by the name of their device; first the largest."""
    roomy = [machine for machine in machines if count_workers(share, [machine])]
    roomy.sort(key=lambda machine: (machine.gpus if share.gpu else 0, machine.cpus), reverse=True)
    kinds: dict[str, list[Node]] = {}
    for machine in roomy:
        kinds.setdefault(_device_name(machine, on_gpus=share.gpu > 0), []).append(machine)
    return kinds


def _device_name(machine: Node, *, on_gpus: bool) -> str:
    return device_name(machine, on_gpus=on_gpus, processor=lambda: on_machine(machine, processor_name))


def _is_open(request: ResourceRequest, share: Share, machine: Node) -> bool:
    """Whether it is left to measurement how many trials run at once.

    Of several workers each has a GPU of its own, or the cores that are asked for: what they gain together depends on
    how they wait for one another, and nobody measures that.
    """
    if share.workers > 1:
        return False
    if share.gpu:
        return request.gpu is None and machine.accelerator is not None
    return request.cpu is None


def _kept(request: ResourceRequest, earlier: Choices, name: str, machines: Sequence[Node]) -> Share | None:
    """Return the share of the run so far, where it was measured on such a machine and fits."""
    if earlier.measured_on != name or earlier.cpu_per_trial is None or earlier.gpu_per_trial is None:
        return None
    cpu = earlier.cpu_per_trial if request.cpu is None else request.cpu
    gpu = earlier.gpu_per_trial if request.gpu is None else request.gpu
    try:
        return fit(replace(request, gpu=gpu, cpu=cpu), machines)
    except ExperimentError:
        return None


def _packed(
    request: ResourceRequest,
    share: Share,
    *,
    machine: Node,
    machines: Sequence[Node],
    trials: Mapping[str, Trial],
    known: Mapping[str, Step],
    survey: Survey,
) -> Share | None:
    """Return the share with which trials together train most, by the costliest model; None where that is unknown."""
    threads = share.threads if share.gpu else 1
    steps = {
        **known,
        **survey.steps({key: trial for key, trial in trials.items() if key not in known}, threads=threads),
    }
    keys = [key for key in trials if key in steps]
    if not keys:
        return None
    costliest = min(keys, key=lambda key: steps[key].images_per_second)
    cores = machine.cpus / machine.gpus if share.gpu else machine.cpus
    most = math.floor(cores / (request.cpu or 1))
    most = max(1, min(most, MOST_ON_A_GPU) if share.gpu else most)
    number = survey.number(trials[costliest], steps[costliest], most=most)
    if number is None:
        return None
    if share.gpu:
        cpu = request.cpu or max(1, math.floor(cores / number))
        return fit(replace(request, gpu=1 / number, cpu=cpu), machines)
    return fit(replace(request, gpu=0, cpu=cores / number), machines)


def _choices(share: Share, measured_on: str | None, steps: Mapping[str, Mapping[str, Step]]) -> Choices:
    return Choices(
        cpu_per_trial=share.cpu,
        gpu_per_trial=share.gpu,
        threads_per_trial=share.threads,
        measured_on=measured_on,
        steps=steps,
    )
