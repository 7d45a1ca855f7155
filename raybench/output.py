"""What the commands print: a run, a plan, a ranking, a report, a trial.

In: a `Run` or what a command was given. Out: text on the terminal or in a file, and an exit status.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from raybench.api import rank_source
from raybench.checkpoint_paths import with_state
from raybench.errors import InputError
from raybench.experiment import load_experiment
from raybench.extension import check_extension
from raybench.foreign import Source, load_sources, parse_test_images, with_test_images
from raybench.formats import duration_text, is_missing, joined, safe_cell
from raybench.ledger import load as load_ledger
from raybench.ledger import summary, with_prices
from raybench.manifest import MANIFEST, check_belongs
from raybench.mirror import place_of
from raybench.picked import PICK, chosen_trial
from raybench.plan import make_plan
from raybench.pretraining import seen_before
from raybench.quote import kept as kept_quote
from raybench.recognize import parse_columns
from raybench.records import Status, Trial
from raybench.report.advice import notes, provisional_note, sentence
from raybench.report.machines import machines_note
from raybench.report.search_views import rate_sentences, search_view
from raybench.report.spend_views import ledger_view, quote_view
from raybench.report.tables import FORMATS, epochs_table, markdown_text, ranking_tables
from raybench.report.trial_pace import trial_pace
from raybench.report.views import TRIAL_COLUMNS, plan_view, predictions_table, trials_table
from raybench.results import load_history, read_trial
from raybench.reuse import Reuse
from raybench.runner import preflight_with_status, quote
from raybench.runs import Run, open_run, run_directory
from raybench.trials import describe, learning_rate_cell
from raybench.tries import RateOrigins, rate_origins
from raybench.yaml_input import naming_overrides

DONE, SOME_FAILED, INTERRUPTED = 0, 1, 130
PARQUET = "parquet"
FORMAT_OF_ENDING = {".csv": "csv", ".parquet": PARQUET, ".json": "json", ".md": "markdown", ".txt": "table"}
"""What `rank --output` writes where no format is given."""
PLAIN_WIDTH = 100
"""Columns of a table that goes to no terminal."""


def console() -> Console:
    """Return the console that tables are printed on: as wide as the terminal, or as a page of text."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def print_run(run: Run, *, address: str | None = None) -> int:
    """Print the ranking of a run that ended, the pick and where the results are; return the exit status.

    `address` is that of the cluster it ran on, for the command that goes on.
    """
    out = console()
    place = place_of(run.run_dir)
    source = load_sources([run.run_dir])
    ranking = rank_source(source)
    if len(ranking):
        out.print()
        _print_ranking(out, ranking, source, rates=_rates([run.run_dir]))
    failed = int((source.results["status"] == Status.FAILED).sum())
    if failed:
        out.print(
            Text(f"{failed} of {len(run.trials)} trials failed; their errors: raybench show {place_of(run.run_dir)}")
        )
    if run.budget_reached:
        asked = run.experiment.budget
        key = "hours" if asked is not None and asked.usd is None else "usd"
        out.print(
            Text(
                "The budget is reached; what was finished is kept, and the ranking is provisional. Go on by giving "
                f"more in the file, or with --set budget.{key}=..."
            )
        )
    if run.interrupted:
        there = "" if address is None else f" --address {address}"
        out.print(
            Text(f"Interrupted; what was finished is kept. Go on with: raybench resume {place}{there}"), soft_wrap=True
        )
    out.print(Text(f"Results: {place} (see them again: raybench rank {place})"), soft_wrap=True)
    return INTERRUPTED if run.interrupted else SOME_FAILED if failed else DONE


def _print_ranking(out: Console, ranking: pd.DataFrame, source: Source, *, rates: Sequence[str]) -> None:
    out.print(ranking_tables(ranking, width=out.width))
    for line in _sentences(ranking):
        out.print(Text(line))
    for line in _remarks(ranking, source, rates=rates):
        out.print(Text(line, style="dim"))


def _sentences(ranking: pd.DataFrame) -> list[str]:
    """Return the advice on each dataset and training-set size."""
    return [sentence(group) for _, group in ranking.groupby(["dataset", "train_size"], dropna=False, sort=False)]


def _remarks(ranking: pd.DataFrame, source: Source, *, rates: Sequence[str]) -> list[str]:
    """Return what a reader must know of the whole ranking."""
    said = notes(ranking, test_images=source.test_images, train_images=source.train_images)
    first = filter(None, [provisional_note(source.results), machines_note(source.results)])
    return [*source.notes, *first, *said, *rates]


def _rates(sources: Sequence[Path]) -> list[str]:
    """Return where the learning rates of runs come from; other sources do not tell."""
    origins: dict[str, RateOrigins | None] = {}
    for path in sources:
        if (path / MANIFEST).exists():
            run = open_run(path)
            origins[path.resolve().name] = rate_origins(path, run.experiment, run.facts, run.rates)
        elif path.is_dir():
            origins[path.resolve().name] = None
    return rate_sentences(origins)


def print_ranking(
    sources: Sequence[Path],
    *,
    by: str | None,
    output_format: str | None,
    output: Path | None,
    columns: Sequence[str] = (),
    test_images: Sequence[str] = (),
) -> None:
    """Rank sources and print the ranking as a table, or in one of `FORMATS`, on the terminal or into a file.

    Without a format, the ending of `output` decides. `columns` are as `parse_columns` reads them, `test_images` as
    `parse_test_images` does.
    """
    chosen = _format(output_format, output)
    source = with_test_images(load_sources(sources, parse_columns(columns)), parse_test_images(test_images))
    ranking = rank_source(source, by=by)
    rates = _rates(sources)
    if output is not None and chosen == PARQUET:
        _write(output, lambda path: ranking.to_parquet(path, index=False))
        console().print(Text(f"Wrote {output} ({chosen})"), soft_wrap=True)
        return
    if chosen == "table" and output is None:
        _print_ranking(console(), ranking, source, rates=rates)
        return
    if chosen == "table":
        file = io.StringIO()
        _print_ranking(Console(file=file, width=PLAIN_WIDTH), ranking, source, rates=rates)
        text = file.getvalue()
    else:
        text = FORMATS[chosen](ranking)
        # A table for a program has no place for it.
        if chosen != "markdown" and (warning := machines_note(source.results)) is not None:
            Console(stderr=True).print(Text(warning), soft_wrap=True)
    if chosen == "markdown":
        said = [*_sentences(ranking), *_remarks(ranking, source, rates=rates)]
        text += "\n" + "".join(f"- {markdown_text(line)}\n" for line in said)
    if output is None:
        sys.stdout.write(text)
        return
    _write(output, lambda path: path.write_text(text, encoding="utf-8"))
    console().print(Text(f"Wrote {output} ({chosen})"), soft_wrap=True)


def print_report(
    sources: Sequence[Path], *, output: Path | None, columns: Sequence[str] = (), test_images: Sequence[str] = ()
) -> None:
    """Write the report of sources, and say where it is and what it advises."""
    # Imported here, because Plotly and Jinja take a while that a ranking does not need.
    from raybench.report.page import write_report  # noqa: PLC0415

    written = write_report(sources, output, columns=columns, test_images=test_images)
    out = console()
    out.print(Text(f"{written.data.answer.question} {written.data.answer.headline}"))
    out.print(Text(f"Wrote {written.path} (open it in a browser; nothing else is needed)"), soft_wrap=True)


def print_comparison(
    first: Path,
    second: Path,
    *,
    output: Path | None,
    columns: Sequence[str] = (),
    test_images: Sequence[str] = (),
) -> None:
    """Print how two sources differ, and write it as a page where one is asked for."""
    # Imported here, because Plotly and Jinja take a while that a ranking does not need.
    from raybench.report.compare import compare  # noqa: PLC0415
    from raybench.report.compare_views import comparison_view  # noqa: PLC0415
    from raybench.report.page import render_comparison, write_page  # noqa: PLC0415
    from raybench.report.page_material import load_material  # noqa: PLC0415

    read = partial(load_material, columns=columns, test_images=test_images, epochs=False)
    materials = [read([path]) for path in (first, second)]
    comparison = compare(*materials)
    out = console()
    out.print(comparison_view(comparison))
    if output is not None:
        write_page(render_comparison(comparison), output)
        out.print(Text(f"Wrote {output}"), soft_wrap=True)


def _format(asked: str | None, output: Path | None) -> str:
    """Return the format that is asked for, or that the file's ending says; raise InputError where they do not fit."""
    if output is None:
        return asked or "table"
    if output.is_dir():
        raise InputError(f"--output {output}: cannot be written: it is a folder; give another file")
    ending = output.suffix.lower()
    endings = joined(list(FORMAT_OF_ENDING), "or")
    # A file without an ending says nothing of itself, so that a format may be asked for.
    if ending not in FORMAT_OF_ENDING and (ending or asked is None):
        also = "" if ending else ", or say --format"
        raise InputError(f"--output {output}: {ending or 'no ending'} is not accepted; give {endings}{also}")
    if asked is not None and FORMAT_OF_ENDING.get(ending) == PARQUET:
        raise InputError(f"--output {output}: --format {asked} is text; give another ending, or leave --format out")
    return asked or FORMAT_OF_ENDING[ending]


def _write(output: Path, write: Callable[[Path], object]) -> None:
    try:
        write(output)
    except OSError as error:
        why = error.strerror or str(error)  # Arrow's errors have a text alone
        raise InputError(f"--output {output}: cannot be written: {why}; give another file") from None


def print_plan(
    file: Path,
    run_dir: Path | None,
    overrides: Sequence[str],
    *,
    reuse: Sequence[Path] = (),
    measured_on: Mapping[str, Any] | None = None,
) -> None:
    """Print what a run of an experiment would do; `measured_on` are arguments of `quote`, where that is wanted too."""
    with naming_overrides(str(file), overrides):
        experiment = load_experiment(file, overrides)
        directory = run_dir or run_directory(experiment.name)
        check_belongs(directory, experiment)
        others = Reuse(reuse, directory)
        out = console()
        facts = preflight_with_status(experiment, str(file), out, warn=False)
        check_extension(directory, experiment, facts, str(file))
        made = make_plan(experiment, facts, directory, others.preview(experiment, facts, out))
        out.print(plan_view(made, facts))
        for warning in seen_before(experiment.datasets, facts.weights.values()):
            out.print(Text(f"Note: {warning}", style="yellow"), soft_wrap=True)
        if measured_on is None:
            return
        out.print()
        began = time.monotonic()
        with out.status("Starting Ray") as status:
            quoted = quote(
                experiment,
                str(file),
                facts,
                directory,
                **measured_on,
                taken_over=made.taken_over,
                tell=lambda notice: status.update(notice.text),
            )
        out.print(quote_view(quoted))
        out.print(Text(f"Measured in {duration_text(time.monotonic() - began)}."))


def print_trials(run_dir: Path) -> None:
    """Print a run's trials, and how their learning rates were chosen."""
    run, out = open_run(run_dir), console()
    with_states = with_state(run_dir, [trial.trial_id for trial in run.trials])
    out.print(trials_table(run.results(TRIAL_COLUMNS), with_states))
    search = run.search()
    if len(search):
        out.print()
        out.print(search_view(search))
    spent = summary(with_prices(load_ledger(run_dir), run.price_per_hour_usd))
    if spent.lines:
        out.print()
        made = kept_quote(run_dir)
        pace = trial_pace(run_dir, run.experiment, run.facts, run.trials, made)
        out.print(ledger_view(spent, made, pace))


def write_results(run_dir: Path, output: Path) -> None:
    """Write one row a trial, with its `learning_rate`, to a CSV or Parquet file. Raises InputError."""
    run = open_run(run_dir)
    results = run.results()
    if output.suffix not in {".csv", ".parquet"}:
        raise InputError(
            f"--output {output}: {output.suffix or 'no ending'} is not accepted; give a .csv or .parquet file"
        )
    results["learning_rate"] = _learning_rates(results, run)
    if output.suffix == ".csv":
        lists = {"test_per_class_recall": results["test_per_class_recall"].map(_json)}
        table = results.assign(**lists).astype(object).map(safe_cell)
        _write(output, lambda path: table.to_csv(path, index=False, lineterminator="\n"))
    else:
        _write(output, lambda path: results.to_parquet(path, index=False))
    console().print(Text(f"Wrote {output} ({len(results)} trials)"), soft_wrap=True)


def _learning_rates(results: pd.DataFrame, run: Run) -> "pd.Series[Any]":
    """Return the rate of each row's trial: numbers, or texts in all rows where the phases of one have several."""
    cells = {trial.trial_id: learning_rate_cell(trial) for trial in run.trials}
    column = results["trial_id"].map(cells)
    has_text = any(isinstance(cell, str) for cell in cells.values())
    return column.map(str, na_action="ignore").astype(object) if has_text else column.astype(float)


def _json(values: Any) -> str | None:  # noqa: ANN401 - an array, or what is missing
    return None if is_missing(values) else json.dumps([None if is_missing(value) else float(value) for value in values])


def _chosen(run_dir: Path, trial_id: str) -> Trial:
    """Return the trial that is meant, and say which one the pick is."""
    trial = chosen_trial(run_dir, trial_id)
    if trial_id == PICK:
        console().print(Text(f"The pick: {describe(trial)}, trial {trial.trial_id}"), soft_wrap=True)
    return trial


def print_trial(run_dir: Path, trial_id: str) -> None:
    """Print the epochs of one trial."""
    trial = _chosen(run_dir, trial_id)
    history = load_history(run_dir, only={trial.trial_id})
    result = read_trial(run_dir, trial.trial_id)
    out = console()
    if result is None:
        out.print(Text(f"{describe(trial)} has not ended yet, so none of its epochs is on record."))
        return
    if not history.empty:
        out.print(epochs_table(history, title=describe(trial)))
    if result.test_accuracy is not None:
        out.print(Text(f"test accuracy {result.test_accuracy:.4f} (with the weights of epoch {result.best_epoch})"))
    if result.error is not None:
        out.print(Text(f"{describe(trial)} {result.status}:\n{result.error}", style="red"), soft_wrap=True)


def print_export(run_dir: Path, trial_id: str, output: Path) -> None:
    """Export a trial's weights and say what was written."""
    from raybench.training.export import export_trial  # noqa: PLC0415

    exported = export_trial(run_dir, _chosen(run_dir, trial_id), output)
    out = console()
    out.print(Text(f"Wrote {exported.path} ({exported.format}) and {exported.card_path}"), soft_wrap=True)
    out.print(Text(exported.pretrained_on), soft_wrap=True)
    if exported.largest_difference is not None:
        out.print(Text(f"Its outputs differ from torch's by {exported.largest_difference:.1e} at most"))


def print_predictions(run_dir: Path, trial_id: str, images: Sequence[Path]) -> None:
    """Print what a trial sees in images."""
    from raybench.training.predict import load_classifier  # noqa: PLC0415

    classifier = load_classifier(run_dir, _chosen(run_dir, trial_id))
    console().print(predictions_table(classifier.predict(images)))
