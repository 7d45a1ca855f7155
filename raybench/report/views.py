"""What `plan`, `models`, `show` and `predict` print: records and tables in, Rich renderables out.

Names and messages come from files: they are shown as text, never taken for markup, without control characters.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from raybench.formats import (
    MISSING,
    accuracy_text,
    clock_text,
    count_text,
    error_line,
    is_missing,
    joined,
    number_of,
    safe_text,
)
from raybench.records import DatasetFacts, Facts, ResourceRequest, Status, WeightsFacts
from raybench.report.long_table import Heading, LongTable, Row
from raybench.report.plain_table import plain_table
from raybench.report.search_views import search_plan_text
from raybench.trials import weights_label

if TYPE_CHECKING:  # these import torch, which `raybench show` does not need
    from raybench.plan import DatasetPlan, Plan
    from raybench.training.measure import ModelRow, Speed
    from raybench.training.predict import Prediction

NOT_BEGUN: Final = "not begun"
"""In place of the status of a trial without an epoch."""
CLASSES_COUNTED: Final = 12
"""Most classes whose images are counted one by one."""
NAMES_SHOWN: Final = 3
"""Of a long list of names."""
SMALLEST_COUNTED: Final = 100
"""Speeds from here on are shown without decimals."""
THOUSAND, MILLION = 1e3, 1e6

TRIAL_COLUMNS: Final = (
    *("trial_id", "dataset", "train_size", "model", "weights", "strategy", "seed", "status", "error"),
    *("epochs_run", "val_accuracy", "test_accuracy", "train_seconds", "node"),
)
"""What `trials_table` shows of the results."""
STATUS_STYLES: Final[dict[str, str]] = {
    Status.FAILED: "red",
    Status.STOPPED: "yellow",
    Status.UNFINISHED: "yellow",
}


def models_table(rows: Sequence["ModelRow"], *, measured: bool) -> RenderableType:
    """Return depth, parameters, size and, where `measured`, speed of models, one a line."""
    table = plain_table()
    table.add_column("model", overflow="fold")
    for name in ("px", "depth", "parameters", "size MB"):
        table.add_column(name, justify="right")
    if measured:
        for name in ("training images/s", "inference images/s", "latency ms"):
            table.add_column(name, justify="right")
    for row in rows:
        facts = row.facts
        cells = [str(row.image_size), str(facts.depth), _parameters(facts.parameters), _megabytes(facts.model_bytes)]
        table.add_row(_name(facts.model), *cells, *(_speed_cells(row.speed) if measured else ()))
    return Group(table, *(Text(note) for note in _speed_notes(rows))) if measured else table


def plan_view(plan: "Plan", facts: Facts) -> RenderableType:
    """Return what a run would do: trials, what is done, what each asks for, the datasets and the weights."""
    table = _labels()
    seeds = sorted({trial.seed for trial in plan.trials})
    table.add_row(
        "trials",
        f"{len(plan.trials)}: {number_of(plan.configurations, 'configuration')} "
        f"with {number_of(len(seeds), 'seed')} ({_short([str(seed) for seed in seeds])})",
    )
    table.add_row("done", _done(plan))
    if plan.taken_over:
        table.add_row("taken over", _taken_over(plan))
    if plan.search is not None:
        table.add_row("learning rates", search_plan_text(plan.search))
    if plan.most_epochs:
        table.add_row(
            "to train", f"at most {plan.most_epochs} epochs; trials end earlier when they stop getting better"
        )
    table.add_row("stopping", _stopping(plan))
    table.add_row("each asks for", _request(plan.request))
    if plan.budget is not None:
        table.add_row("budget", f"at most {plan.budget}")
    parts: list[RenderableType] = [Text(f"Plan of {safe_text(plan.name)}", style="bold"), _indented(table)]
    for dataset in plan.datasets:
        parts += [Text(), _dataset_title(dataset), _indented(_dataset_view(dataset))]
    return Group(*parts, Text(), Text("Weights", style="bold"), _indented(_weights_view(facts.weights)))


def trials_table(results: pd.DataFrame, begun: Collection[str] = ()) -> RenderableType:
    """Return one line a trial, a table for each dataset and train size; below it the errors of failed trials.

    Where they ran on several machines, each line says on which.

    Args:
        results: `TRIAL_COLUMNS`, as `raybench.results.load_results` returns them; unfinished trials may be among them.
        begun: ids of trials that have a checkpoint. An unfinished one without it or epochs is told as not begun.

    """
    if results.empty:
        return Text("No trials.")
    parts: list[RenderableType] = []
    several = len(set(results["node"].dropna())) > 1
    for (dataset, train_size), rows in results.groupby(["dataset", "train_size"], sort=False):
        title = f"{safe_text(dataset)} · {count_text(train_size)} training images"
        parts += [Text(title, style="bold"), _trials_of_a_group(rows, begun, places=several), Text()]
    failed = results[results["status"].astype(str) == Status.FAILED.value]
    for _, row in failed.iterrows():
        parts.append(Text.assemble((f"{row['trial_id']} failed: ", "red"), error_line(row["error"])))
    parts.append(Text("val and test are accuracies of the best epoch; time is training and validation."))
    return Group(*parts)


def predictions_table(predictions: Sequence["Prediction"]) -> RenderableType:
    """Return the class of each image with its probability, and the classes that come next."""
    table = plain_table()
    table.add_column("image", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("next", overflow="fold")
    for prediction in predictions:
        others = [f"{safe_text(each.name)} {each.probability:.3f}" for each in prediction.top[1:]]
        table.add_row(
            _name(prediction.path),
            _name(prediction.class_name),
            f"{prediction.probability:.3f}",
            Text(", ".join(others)),
        )
    return table


def _labels() -> Table:
    """Return a table of what is said about a thing: its label, and text that wraps beside it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    return table


def _indented(table: Table) -> RenderableType:
    return Padding(table, (0, 0, 0, 2))


def _name(value: object) -> Text:
    return Text(safe_text(value))


def _short(names: Sequence[str], most: int = CLASSES_COUNTED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(safe_text(name) for name in names[:most]) + more


def _done(plan: "Plan") -> str:
    left = len(plan.trials) - sum(plan.done.values())
    if not plan.done and not plan.begun:
        return "nothing yet"
    said = joined([f"{count} {status}" for status, count in plan.done.items()]) if plan.done else "none has ended"
    begun = f": {plan.begun} begun and {left - plan.begun} not begun" if plan.begun else ""
    failed = Status.FAILED in plan.done
    retried = " (failed trials are trained again by 'raybench resume --retry-failed')" if failed else ""
    return f"{said}; {left} to go{begun}{retried}"


def _taken_over(plan: "Plan") -> str:
    said = []
    for path, taken in plan.taken_over.items():
        counts = [(len(taken.trials), "trial", "trials"), (len(taken.tries), "try", "tries")]
        parts = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
        why = "" if parts else " (it has completed none of what is to go)"
        said.append(f"{joined(parts) if parts else 'nothing'} from {safe_text(path)}{why}")
    return "; ".join(said)


def _stopping(plan: "Plan") -> str:
    patience = sorted({phase.patience for trial in plan.trials for phase in trial.strategy.phases})
    after = " or ".join(map(str, patience))
    alone = f"after {after} epoch{'' if patience == [1] else 's'} without a better val loss (patience)"
    if not plan.groups:
        return f"{alone}; no trial because of another"
    if all(trial.strategy.phases[-1].epochs <= plan.grace_period for trial in plan.trials):
        return f"{alone}; ASHA never: its grace period of {plan.grace_period} is no shorter than the trials"
    return f"{alone}; within {number_of(plan.groups, 'group')}, trials that fall behind the others (ASHA)"


def _request(request: ResourceRequest) -> str:
    by_kinds: dict[tuple[str, ...], list[str]] = {}
    for model, kinds in request.accelerators.items():
        by_kinds.setdefault(kinds, []).append(safe_text(model))
    if len(by_kinds) == 1:
        return f"{_amount(request)}; on {joined(list(next(iter(by_kinds))), 'or')}"
    pinned = [f"{joined(models)} on {joined(list(kinds), 'or')}" for kinds, models in by_kinds.items() if kinds]
    return "; ".join([_amount(request), *pinned])


def _amount(request: ResourceRequest) -> str:
    if request.workers > 1:
        batchnorm = "the whole batch" if request.sync_batchnorm else "each worker's part of a batch"
        each = f"{request.workers} workers, each with {_request_of_a_worker(request)}"
        return f"{each}; BatchNorm normalises over {batchnorm}"
    as_pay = "as many CPU cores as pay (measured before the first trial)"
    cores = as_pay if request.cpu is None else _count_of_cores(request.cpu)
    match request.gpu:
        case None:
            return f"{cores}; where there are GPUs, as much of one as pays"
        case 0:
            return f"{cores} and no GPU"
        case gpu if gpu < 1:
            return f"{cores} and {gpu:g} of a GPU"
        case gpu:
            return f"{cores} and {gpu:g} GPU{'' if gpu == 1 else 's'}"


def _request_of_a_worker(request: ResourceRequest) -> str:
    cores = None if request.cpu is None else _count_of_cores(request.cpu)
    match request.gpu:
        case None:
            return f"{cores or 'a CPU core'}; where there are GPUs, one of these"
        case 0:
            return f"{cores or 'a CPU core'} and no GPU"
        case gpu:
            return f"{gpu:g} GPU{'' if gpu == 1 else 's'}{'' if cores is None else f' and {cores}'}"


def _count_of_cores(cores: float) -> str:
    return f"{cores:g} CPU core{'' if cores == 1 else 's'}"


def _dataset_title(dataset: "DatasetPlan") -> Text:
    return Text(f"Dataset {safe_text(dataset.facts.name)}", style="bold")


def _dataset_view(dataset: "DatasetPlan") -> Table:
    facts = dataset.facts
    table = _labels()
    test = "no test split" if facts.test_images is None else f"{facts.test_images} test"
    size = f"at {dataset.image_size_px} px"
    table.add_row("images", f"{facts.train_images} train · {facts.val_images} val · {test}, {size}")
    table.add_row("train sizes", ", ".join(str(size) for size in dataset.train_sizes))
    table.add_row("classes", Text(_classes(facts)))
    table.add_row("can tell apart", _gap(dataset))
    for warning in facts.warnings:
        table.add_row(Text("note", style="yellow"), _name(warning))
    if facts.skipped_images:
        names = _short(facts.skipped_images, NAMES_SHOWN)
        skipped = number_of(len(facts.skipped_images), "unreadable image")
        table.add_row(Text("left out", style="yellow"), Text(f"{skipped}: {names}"))
    return table


def _classes(facts: DatasetFacts) -> str:
    counts = dict(zip(facts.classes, facts.train_class_counts, strict=True))
    if len(counts) <= CLASSES_COUNTED:
        listed = ", ".join(f"{safe_text(name)}: {count}" for name, count in counts.items())
        return f"{len(counts)}; training images of {listed}"
    fewest, most = (pick(counts, key=lambda name: counts[name]) for pick in (min, max))
    return (
        f"{len(counts)}; {counts[fewest]} ({safe_text(fewest)}) to {counts[most]} ({safe_text(most)}), "
        f"median {median(counts.values()):g} training images"
    )


def _gap(dataset: "DatasetPlan") -> str:
    if dataset.facts.test_images is None:
        return "there is no test split: configurations are ranked by val accuracy, which is too kind to the winner"
    gap = dataset.detectable_gap
    if is_missing(gap) or gap is None:
        return f"nothing: {number_of(dataset.facts.test_images, 'test image')} cannot tell two accuracies apart"
    return (
        f"accuracies that differ by {100 * gap:.1f} percentage points or more (near 90 %, with "
        f"{number_of(dataset.facts.test_images, 'test image')}), as far as test images go; what seeds do comes on top"
    )


def _weights_view(weights: Mapping[str, WeightsFacts]) -> Table:
    table = _labels()
    drawn = [facts for facts in weights.values() if not facts.note]
    for facts in weights.values():
        if facts.note:
            table.add_row(
                Text(f"{safe_text(facts.model)} {safe_text(weights_label(facts.weights))}"), _name(facts.note)
            )
    if drawn:
        models = _short([facts.model for facts in drawn])
        table.add_row("random", Text(f"drawn anew for each seed: {models}"))
    return table


def _trials_of_a_group(rows: pd.DataFrame, begun: Collection[str], *, places: bool) -> LongTable:
    where = [Heading(text="on", on_the_right=False, folds=True)] if places else []
    return LongTable(
        headings=[
            Heading(text="trial", on_the_right=False),
            Heading(text="model, weights, strategy", on_the_right=False, folds=True),
            Heading(text="seed"),
            Heading(text="status", on_the_right=False),
            *(Heading(text=name) for name in ("val", "test", "epochs", "time")),
            *where,
        ],
        rows=[_trial_row(row, begun, places=places) for row in rows.to_dict("records")],
        gap=1,
    )


def _trial_row(row: Mapping[Hashable, Any], begun: Collection[str], *, places: bool) -> Row:
    status = str(row["status"])
    waits = status == Status.UNFINISHED and is_missing(row["epochs_run"]) and row["trial_id"] not in begun
    cells = [
        safe_text(row["trial_id"]),
        safe_text(f"{row['model']} {weights_label(str(row['weights']))} {row['strategy']}"),
        count_text(row["seed"]),
        NOT_BEGUN if waits else status,
        accuracy_text(row["val_accuracy"]),
        accuracy_text(row["test_accuracy"]),
        count_text(row["epochs_run"]),
        clock_text(row["train_seconds"]),
        *([MISSING if is_missing(row["node"]) else safe_text(row["node"])] if places else []),
    ]
    return Row(cells=cells, cell_styles={3: STATUS_STYLES[status]} if status in STATUS_STYLES and not waits else {})


def _parameters(number: int) -> str:
    if number >= MILLION:
        return f"{number / MILLION:.1f}M"
    return f"{number / THOUSAND:.1f}k" if number >= THOUSAND else str(number)


def _megabytes(size: int) -> str:
    megabytes = size / MILLION
    return f"{megabytes:.1f}" if megabytes >= 1 else f"{megabytes:.2g}"


def _per_second(images: float | None) -> str:
    if images is None:
        return MISSING
    if images >= SMALLEST_COUNTED:
        return f"{images:.0f}"
    return f"{images:.1f}" if images >= 1 else f"{images:.2g}"


def _speed_cells(speed: "Speed | None") -> Iterator[str]:
    if speed is None:
        yield from (MISSING,) * 3
        return
    yield _per_second(speed.training_images_per_second)
    yield _per_second(speed.inference_images_per_second)
    yield f"{1000 * speed.inference_latency_seconds:.3g}"


def _speed_notes(rows: Sequence["ModelRow"]) -> Iterator[str]:
    speeds = {row.facts.model: row.speed for row in rows if row.speed is not None}
    if not speeds:
        return
    some = next(iter(speeds.values()))
    usual = max(speed.training_batch_size for speed in speeds.values())
    yield (
        f"Measured on {safe_text(some.accelerator)} with {number_of(some.threads, 'CPU thread')}: fine-tuning all "
        f"layers, {usual} images a batch; latency of one image. Images lie in memory: decoding and "
        "augmentation are not in it."
    )
    if any(speed.training_images_per_second is None for speed in speeds.values()):
        yield "No training speed: parameters, gradients and Adam's state do not fit into the free memory."
    fewer = [
        f"{name} {speed.training_batch_size}"
        for name, speed in speeds.items()
        if speed.training_images_per_second is not None and speed.training_batch_size < usual
    ]
    if fewer:
        yield f"Smaller training batches, so that measuring ends soon: {_short(fewer)}."
