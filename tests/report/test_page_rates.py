"""The table of learning rates on a page, of runs whose tries nobody trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raybench.choices import Choices
from raybench.manifest import write_manifest
from raybench.records import Status
from raybench.report.page import report_data
from raybench.report.page_material import load_material
from raybench.report.page_parts import Table
from raybench.report.page_rates import MOST_OPEN, rate_blocks
from raybench.results import write_trial
from raybench.runs import open_run
from raybench.trials import first_row, searches_of
from raybench.tries import FOLDER
from tests.made_up_run import MadeUp

AUTO: dict[str, Any] = {
    "training": {"epochs": 3, "learning_rate": "auto", "learning_rate_search": {"values": 3}},
    "datasets": [{"name": "shapes", "source": "imagefolder:shapes", "image_size": 32, "train_sizes": [50, 200]}],
}
LOSSES = {0.3: 0.5, 1.0: 0.4321, 3.0: None}
"""Of each factor; the highest diverges."""


def searched(run_dir: Path, *, chosen: float, **experiment: Any) -> Path:  # noqa: ANN401 - keys of an experiment
    """Write a run in which rates were tried, the same factor was chosen everywhere, and no trial has ended."""
    MadeUp(experiment=AUTO | experiment, changes=lambda _: None).write(run_dir)
    run = open_run(run_dir)
    searches = searches_of(run.experiment, run.facts)
    for search in searches:
        for factor, trial in zip(search.factors, search.tries, strict=True):
            loss = LOSSES[factor]
            row = first_row(trial, Status.COMPLETED if loss else Status.FAILED)
            row = replace(row, val_loss=loss, error=None if loss else "DivergedError: no number")
            write_trial(run_dir / FOLDER, row, [], None)
    rates = {search.search_id: chosen for search in searches}
    write_manifest(run_dir, run.experiment, run.facts, Choices(), rates, prices={})
    return run_dir


def tables(*run_dirs: Path) -> list[Table]:
    blocks = list(rate_blocks(load_material(run_dirs)))
    assert all(isinstance(block, Table) for block in blocks)
    return [block for block in blocks if isinstance(block, Table)]


def test_each_configuration_has_a_row_with_its_tries_and_its_choice(tmp_path: Path) -> None:
    (table,) = tables(searched(tmp_path / "run", chosen=1.0))
    assert [column.text for column in table.columns] == [
        *("configuration", "training images", "default rate", "x 0.3", "x 1", "x 3", "chosen")
    ]
    rows = [[cell.text for cell in row.cells] for row in table.rows]
    assert len(rows) == 8
    assert rows[0] == ["resnet8 linear-probe", "50", "0.01", "0.5000", "0.4321", "diverged", "0.01"]
    assert rows[1] == ["resnet8 fine-tune", "50", "0.001", "0.5000", "0.4321", "diverged", "0.001"]
    assert table.title == "Learning rates tried"
    assert not any("edge" in note for note in table.notes)


def test_a_choice_at_the_edge_is_told(tmp_path: Path) -> None:
    (table,) = tables(searched(tmp_path / "run", chosen=0.3))
    assert table.rows[0].cells[-1].text == "0.003, at the edge"
    assert "At the edge of the rates tried: one beyond may be better" in table.notes[-1]


def test_a_long_table_is_folded_and_several_datasets_are_named(tmp_path: Path) -> None:
    first = {**AUTO["datasets"][0], "train_sizes": [50, 100, 200]}
    (table,) = tables(searched(tmp_path / "run", chosen=1.0, datasets=[first, {**first, "name": "other"}]))
    assert len(table.rows) == 24 > MOST_OPEN
    assert table.folded == "Learning rates tried: 24 configurations"
    assert [table.columns[1].text, table.rows[-1].cells[1].text] == ["dataset", "other"]


def test_runs_are_told_apart_and_those_with_fixed_rates_have_no_table(made_up: Path, tmp_path: Path) -> None:
    other = searched(tmp_path / "other", chosen=1.0, seeds=[7])
    (table,) = tables(made_up, other)
    assert table.title == "Learning rates tried in other"
    assert tables(made_up) == []


@pytest.mark.parametrize("ended", [True, False])
def test_the_page_shows_it_where_it_says_how_training_went(made_up: Path, tmp_path: Path, *, ended: bool) -> None:
    run_dir = searched(tmp_path / "run", chosen=1.0)
    if ended:
        for trial in open_run(run_dir).trials:
            write_trial(run_dir, replace(first_row(trial, Status.COMPLETED), test_accuracy=0.9), [], None)
    sections = {section.name: section for section in report_data(load_material([run_dir])).sections}
    assert [block.kind for block in sections["training"].blocks] == ["table"]
    fixed = {section.name: section for section in report_data(load_material([made_up])).sections}
    assert [block.kind for block in fixed["training"].blocks] == ["figure"]
