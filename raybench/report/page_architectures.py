"""How large and how fast each model is: material in, a table out.

Sizes and inference speeds are those that the trials measured, training speeds those that the run measured before its
first trial. Depths are counted anew, in models that need no code of the user's.
"""

from collections.abc import Mapping

import pandas as pd

from raybench.choices import step_key
from raybench.errors import RaybenchError
from raybench.formats import MISSING, count_text, is_missing, safe_text
from raybench.records import ModelSpec
from raybench.report.page_material import Material
from raybench.report.page_parts import Block, Column, Row, Table, cells

MEGABYTE = 1e6
MEASURED = ("parameters", "model_bytes", "inference_images_per_second", "inference_latency_seconds")
LEGEND = (
    "Depth counts convolutions and linear layers. Training: all layers, alone on the device, as measured before the "
    "first trial. Inference: batches, and one image alone."
)
MOST_MODELS = 60
Key = tuple[str, str]
"""Dataset and model."""


def architecture_blocks(material: Material) -> list[Block]:
    """Return size and speed of each model; nothing where a source tells of neither."""
    ranking = material.ranking
    if all(ranking[name].isna().all() for name in MEASURED):
        return []
    speeds = _training_speeds(material)
    depths = _depths(material)
    several = len(set(ranking["dataset"])) > 1
    columns = ["model", "depth", "parameters", "size", "training, images/s", "inference, images/s", "one image"]
    rows = [
        [
            safe_text(model) + (f", {safe_text(dataset)}" if several else ""),
            *_texts(own, (str(dataset), str(model)), depths, speeds),
        ]
        for (dataset, model), own in ranking.groupby(["dataset", "model"], sort=True)
    ]
    told = [place for place in range(len(columns)) if any(row[place] != MISSING for row in rows)]
    return [
        Table(
            caption="Architectures",
            columns=[Column(text=columns[place], is_name=place == 0) for place in told],
            rows=[Row(cells=cells(*(row[place] for place in told))) for row in rows[:MOST_MODELS]],
            notes=[LEGEND, *([f"The first {MOST_MODELS} of {len(rows)}."] if len(rows) > MOST_MODELS else [])],
        )
    ]


def _texts(own: pd.DataFrame, key: Key, depths: Mapping[Key, int], speeds: Mapping[Key, float]) -> list[str]:
    means = {name: own[name].astype(float).mean() for name in MEASURED}
    latency, size = means["inference_latency_seconds"], means["model_bytes"]
    return [
        count_text(depths.get(key)),
        _whole(means["parameters"]),
        MISSING if is_missing(size) else f"{size / MEGABYTE:.1f} MB",
        _whole(speeds.get(key)),
        _whole(means["inference_images_per_second"]),
        MISSING if is_missing(latency) else f"{1000 * latency:.2g} ms",
    ]


def _training_speeds(material: Material) -> dict[Key, float]:
    """Images a second of a training step of all layers, where the run measured it."""
    return {
        (trial.dataset.name, trial.model.name): steps[step_key(trial)].images_per_second
        for run in material.runs
        for steps in run.chosen.steps.values()
        for trial in run.trials
        if step_key(trial) in steps
    }


def _depths(material: Material) -> dict[Key, int]:
    """Layers of each model that can be built from its name alone."""
    keys = {
        (trial.dataset.name, trial.model.name): (trial, run.facts.datasets[trial.dataset.name])
        for run in material.runs
        for trial in run.trials
        if trial.model.name.replace("_", "").isalnum()
    }
    if not keys or len(keys) > MOST_MODELS:
        return {}
    # Imported here: torch takes seconds, and a report of a table needs none of it.
    from raybench.training.models import build_skeleton, model_facts  # noqa: PLC0415

    depths: dict[Key, int] = {}
    for key, (trial, facts) in keys.items():
        spec = ModelSpec(name=trial.model.name, head=trial.model.head)
        try:
            network = build_skeleton(spec, num_classes=len(facts.classes), image_size=trial.dataset.image_size)
        except RaybenchError:
            continue
        depths[key] = model_facts(network).depth
    return depths


def _whole(value: object) -> str:
    return MISSING if is_missing(value) else f"{float(str(value)):,.0f}"
