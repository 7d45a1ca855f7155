"""Whether two sources were made under the same conditions: their materials in, one point a condition out.

What changes what a trial computes (images, settings) makes a comparison unfair; what changes speed makes costs
incomparable. Versions change the last digits, or more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raybench.formats import joined, safe_text
from raybench.records import Trial
from raybench.report.page_material import Material
from raybench.report.page_parts import Mood, Point
from raybench.trials import weights_label

MOST_KEYS = 8
"""Settings, or seeds, that are named; the rest is counted."""
LABELS_ONLY = ("trial_id", "first_phase_id", "dataset.name", "dataset.root", "strategy.name", "seed")
"""What a trial carries beside what it computes."""
SPEED = ("processor", "cores", "memory_bytes")
"""What is compared of the hardware."""


def conditions(first: Material, second: Material) -> Iterator[Point]:
    """Say of seeds, data, settings, versions and hardware whether they are the same."""
    yield from _seeds(first, second)
    tables = [name for name, material in (("A", first), ("B", second)) if not material.runs]
    if tables:
        are = "is a table, which does" if len(tables) == 1 else "are tables, which do"
        text = f"{joined(tables)} {are} not tell data, settings or machine."
        yield Point(label="Conditions", text=text, mood=Mood.CARE)
        return
    yield from _data(first, second)
    yield from _settings(first, second)
    ours, theirs = _computed(first), _computed(second)
    if ours.keys() & theirs.keys():
        yield _mapped("Computed", ours, theirs, "losses and accuracies differ a little for it, trial by trial")
    yield _mapped("Versions", _versions(first), _versions(second), "numbers may differ in more than their last digits")
    yield _mapped("Machine", _hardware(first), _hardware(second), "times and costs are not those of the same machine")
    yield _mapped("Prices", _prices(first), _prices(second), "costs are at different prices")


def _seeds(first: Material, second: Material) -> Iterator[Point]:
    """Which seeds one alone has; nothing where a table names no seeds. Those that both have are a fair comparison."""
    ours, theirs = (_seeds_of(material) for material in (first, second))
    if not ours or not theirs:
        return
    if ours == theirs:
        yield Point(label="Seeds", text="The same.", mood=Mood.GOOD)
        return
    shared = ours & theirs
    alone = [f"{_named(own)} only in {name}" for name, own in (("A", ours - shared), ("B", theirs - shared)) if own]
    if shared:
        yield Point(label="Seeds", text=f"Not the same: {joined(alone)}; {_named(shared)} in both.")
    else:
        text = f"Not the same: {joined(alone)}, so nothing can be compared in pairs."
        yield Point(label="Seeds", text=text, mood=Mood.CARE)


def _seeds_of(material: Material) -> set[int]:
    return {int(seed) for seed in material.results["seed"].dropna()} if "seed" in material.results else set()


def _named(seeds: set[int]) -> str:
    """`seed 2 is`, `seeds 0 and 1 are`."""
    shown = [str(seed) for seed in sorted(seeds)]
    more = [f"{len(shown) - MOST_KEYS} more"] if len(shown) > MOST_KEYS else []
    names = joined([*shown[:MOST_KEYS], *more])
    return f"seed {names} is" if len(seeds) == 1 else f"seeds {names} are"


def _data(first: Material, second: Material) -> Iterator[Point]:
    datasets = {str(name) for name in first.ranking["dataset"]} & {str(name) for name in second.ranking["dataset"]}
    for dataset in sorted(datasets):
        ours, theirs = first.facts_of(dataset), second.facts_of(dataset)
        label = f"Images of {safe_text(dataset)}"
        if ours is None or theirs is None:
            yield Point(label=label, text="Not known from both.", mood=Mood.CARE)
        elif ours.fingerprint == theirs.fingerprint:
            yield Point(label=label, text="The same, in the same splits.", mood=Mood.GOOD)
        else:
            sizes = " and ".join(
                f"{facts.train_images}/{facts.val_images}/{facts.test_images or 0} train/val/test in {name}"
                for facts, name in ((ours, "A"), (theirs, "B"))
            )
            yield Point(label=label, text=f"Not the same images, size or splits ({sizes}).", mood=Mood.CARE)


def _settings(first: Material, second: Material) -> Iterator[Point]:
    """What the trials of the configurations that both hold compute differently."""
    ours, theirs = _trials(first), _trials(second)
    different: dict[str, tuple[Any, Any]] = {}
    for key in ours.keys() & theirs.keys():
        if ours[key].trial_id != theirs[key].trial_id:
            a, b = _flat(asdict(ours[key])), _flat(asdict(theirs[key]))
            names = (a.keys() | b.keys()) - set(LABELS_ONLY)
            different |= {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}
    if not ours.keys() & theirs.keys():
        return
    if different:
        shown = [f"{_key(name)} {_value(a)} against {_value(b)}" for name, (a, b) in sorted(different.items())]
        more = [f"{len(shown) - MOST_KEYS} more"] if len(shown) > MOST_KEYS else []
        text = f"Not the same: {joined([*shown[:MOST_KEYS], *more])}."
        yield Point(label="Training settings", text=text, mood=Mood.CARE)
    else:
        yield Point(label="Training settings", text="The same for what both hold.", mood=Mood.GOOD)


def _trials(material: Material) -> dict[tuple[object, ...], Trial]:
    """One of each configuration, by what names it in a table: all its seeds are trained alike."""
    return {
        (
            trial.dataset.name,
            trial.train_size,
            trial.model.name,
            weights_label(trial.weights),
            trial.strategy.name,
        ): trial
        for run in material.runs
        for trial in run.trials
    }


def _flat(value: Any, name: str = "") -> dict[str, Any]:  # noqa: ANN401 - fields of any type
    """Nested fields by dotted name."""
    parts: Sequence[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        parts = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        parts = [(str(place), each) for place, each in enumerate(value, start=1)]
    if not parts:
        return {name: value}
    return {
        key: each for part, nested in parts for key, each in _flat(nested, f"{name}.{part}" if name else part).items()
    }


def _key(name: str) -> str:
    """A setting as an experiment file calls it: `phase 1 learning_rate`."""
    return name.replace("strategy.phases.", "phase ").replace("training.", "").replace(".", " ")


def _value(value: object) -> str:
    return "nothing" if value is None else safe_text(value)


def _mapped(label: str, ours: Mapping[str, str], theirs: Mapping[str, str], means: str) -> Point:
    different = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
    if not ours.keys() & theirs.keys():
        return Point(label=label, text="Not known from both.")
    if not different:
        return Point(label=label, text="The same.", mood=Mood.GOOD)
    shown = [
        f"{safe_text(name)} {safe_text(ours[name])} against {safe_text(theirs[name])}" for name in different[:MOST_KEYS]
    ]
    return Point(label=label, text=f"Not the same: {joined(shown)}; {means}.", mood=Mood.CARE)


def _computed(material: Material) -> dict[str, str]:
    """How each model's steps are computed, as was chosen by measuring, by model and device."""
    return {
        f"{key} ({device})": joined(
            ["channels last"] * step.tuning.channels_last + ["bfloat16"] * step.tuning.bfloat16 or ["as usual"]
        )
        for run in material.runs
        for device, steps in run.chosen.steps.items()
        for key, step in steps.items()
    }


def _versions(material: Material) -> dict[str, str]:
    return {name: version for run in material.runs for name, version in run.versions.items()}


def _hardware(material: Material) -> dict[str, str]:
    known = {name: str(run.hardware[name]) for run in material.runs for name in SPEED if name in run.hardware}
    if "accelerator" in material.results:
        known["device"] = ", ".join(sorted({str(name) for name in material.results["accelerator"].dropna()}))
    return {name: value for name, value in known.items() if value}


def _prices(material: Material) -> dict[str, str]:
    return {name: f"${price:g}/h" for run in material.runs for name, price in run.price_per_hour_usd.items()}
