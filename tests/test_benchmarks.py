"""The benchmarks: their arithmetic, what is compared with what, and that the scripts written by hand do learn."""

import ast
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import early_stopping
from benchmarks.__main__ import NAMES
from benchmarks.early_stopping import HELD_OUT, digits
from benchmarks.figures import Figure, publish
from benchmarks.grid import (
    OURS,
    RAY,
    SCRIPTS,
    SEQUENTIAL,
    Grid,
    Measured,
    accuracy_figures,
    same_training,
    scaled_seconds,
    shortened,
)
from benchmarks.grid import experiment as grid_experiment
from raybench.experiment import parse_experiment
from tests.photos import write_photos

pytestmark = pytest.mark.minutes

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"
MODULES = sorted(FOLDER.rglob("*.py"))


def python(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(folder), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


# What there is


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_module_says_what_it_is_and_can_be_read(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_can_be_run_by_itself_and_stands_in_the_readme(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert 'if __name__ == "__main__"' in ast.unparse(tree).replace("'", '"')
    assert f"`{name}`" in (FOLDER / "README.md").read_text()


def test_what_a_user_writes_by_hand_uses_nothing_of_raybench() -> None:
    assert [path.name for path in (FOLDER / "baselines").glob("*.py") if "import raybench" in path.read_text()] == []
    assert [path.name for path in (FOLDER / "baselines").glob("*.py") if "from raybench" in path.read_text()] == []


# Figures


def figure(ours: list[float], peer: list[float], **changes: Any) -> Figure:  # noqa: ANN401 - any field
    fields = {"name": "reading", "unit": "images/s", "peer_name": "by hand", "more_is_better": True, **changes}
    return Figure(ours=ours, peer=peer, **fields)


@pytest.mark.parametrize(
    ("changes", "ratio", "reached"),
    [
        ({}, 4.0, None),
        ({"at_least": 4.0}, 4.0, True),
        ({"at_least": 4.1}, 4.0, False),
        ({"more_is_better": False, "at_least": 0.25}, 0.25, True),
        ({"more_is_better": False, "at_most": 4.0}, 4.0, True),
        ({"at_most": 3.9}, 4.0, False),
    ],
)
def test_what_counts_is_the_median_of_the_runs_ratios(
    changes: dict[str, Any], ratio: float, reached: bool | None
) -> None:
    measured = figure([20.0, 40.0, 90.0], [10.0, 10.0, 10.0], **changes)
    assert measured.ratio == ratio
    assert measured.reached is reached


def test_a_missed_figure_is_printed_as_such() -> None:
    assert (
        figure([1.0], [1.0], at_least=2.0).line() == "reading: 1x, at least 2x MISSED [1 images/s against 1 (by hand)]"
    )


def test_publishing_prints_a_line_a_figure_and_keeps_every_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("pipeline", [figure([2.0, 3.0], [1.0, 1.0]), figure([1.0], [2.0])], {"images": 5}, folder=tmp_path)
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["pipeline", "pipeline"]
    record = json.loads((tmp_path / "pipeline.json").read_text())
    assert record["figures"][0]["ratios"] == [2.0, 3.0]
    assert record["details"] == {"images": 5}


# All of them


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder whose benchmarks take no time: one fails, one is missed, one is reached."""
    (tmp_path / "benchmarks").mkdir()
    for name in ("__init__", "__main__", "figures", "processes"):
        shutil.copy(FOLDER / f"{name}.py", tmp_path / "benchmarks")
    (tmp_path / "benchmarks/memory.py").write_text("raise SystemExit('out of order')")
    for name, ratio in (("scale", 1.0), ("ranking", 3.0)):
        (tmp_path / f"benchmarks/{name}.py").write_text(
            "from benchmarks.figures import Figure, publish\n"
            f"publish({name!r}, [Figure(name='speed', unit='s', ours=[{ratio}], peer=[1.0], peer_name='x',"
            " more_is_better=True, at_least=2.0)])\n"
        )
    return tmp_path


def test_the_others_run_after_one_that_fails_and_the_table_has_all(checkout: Path) -> None:
    done = python("-m", "benchmarks", "memory", "scale", "ranking", folder=checkout)
    table = done.stdout.partition("asked for")[2].splitlines()
    assert done.returncode == 1
    assert [line.split()[0] for line in table[1:4]] == ["memory", "scale", "ranking"]
    assert [line.split()[-1] for line in table[1:4]] == ["FAILED", "MISSED", "ok"]


def test_status_is_zero_where_all_is_as_it_should_be(checkout: Path) -> None:
    assert python("-m", "benchmarks", "ranking", folder=checkout).returncode == 0


def test_figures_of_an_earlier_run_do_not_stand_in_for_a_failure(checkout: Path) -> None:
    (checkout / "benchmarks/results").mkdir()
    (checkout / "benchmarks/results/memory.json").write_text('{"figures": []}')
    assert "FAILED" in python("-m", "benchmarks", "memory", folder=checkout).stdout


def test_a_name_that_is_none_is_refused() -> None:
    done = python("-m", "benchmarks", "memroy")
    assert done.returncode == 2
    assert "no benchmark is called memroy" in done.stderr


# Grid


def test_raybenchs_side_of_the_grid_has_no_early_stopping() -> None:
    parsed = parse_experiment(grid_experiment(Grid(images="/images", held_out=200)), "grid.yaml")
    assert parsed.asha_settings() is None
    assert parsed.training.patience == parsed.training.epochs == 10
    assert len(parsed.models) * len(parsed.strategies) * len(parsed.seeds) == 8


def steady(grid: Grid, *, start: float, trial_start: float, pace: float, side: str, at_once: int) -> Measured:
    """Return what a script measures whose epochs all take equally long, but for the first."""
    trials = [
        {"model": model, "strategy": strategy, "seed": seed}
        for model in grid.models
        for strategy in grid.strategies
        for seed in grid.seeds
    ]
    epochs = [pace + trial_start, *[pace] * (grid.epochs - 1)]
    work = sum(epochs) * len(trials)
    return Measured(
        side=side,
        wall_seconds=start + work / at_once,
        at_once=at_once,
        results=pd.DataFrame([{**trial, "test_accuracy": 0.5, "seconds": sum(epochs)} for trial in trials]),
        history=pd.DataFrame(
            [
                {**trial, "epoch": epoch, "train_loss": 2 / epoch, "epoch_seconds": seconds}
                for trial in trials
                for epoch, seconds in enumerate(epochs, 1)
            ]
        ),
    )


SECONDS = st.floats(0.01, 100)


@settings(deadline=None)
@given(start=SECONDS, trial_start=SECONDS, pace=SECONDS, epochs=st.integers(2, 10), at_once=st.integers(1, 3))
def test_a_part_of_a_steady_script_scales_to_what_the_whole_takes(
    start: float, trial_start: float, pace: float, epochs: int, at_once: int
) -> None:
    grid = Grid(images="", held_out=1)
    side = {"start": start, "trial_start": trial_start, "pace": pace, "at_once": at_once}
    whole = steady(grid, side=RAY, **side)  # type: ignore[arg-type] # four numbers
    one_seed = steady(Grid(images="", held_out=1, epochs=epochs, seeds=(0,)), side=RAY, **side)  # type: ignore[arg-type]
    assert math.isclose(scaled_seconds(one_seed, grid), whole.wall_seconds)
    assert math.isclose(scaled_seconds(shortened(whole, epochs), grid), whole.wall_seconds)
    assert math.isclose(scaled_seconds(whole, grid), whole.wall_seconds)


@pytest.mark.parametrize(("theirs", "reached"), [(0.5, True), (0.9, False)])
def test_accuracies_agree_where_they_are_no_further_apart_than_the_interval_reaches(
    theirs: float, reached: bool
) -> None:
    grid = Grid(images="", held_out=200)
    run = {side: steady(grid, start=1, trial_start=1, pace=1, side=side, at_once=1) for side in (OURS, SEQUENTIAL, RAY)}
    run[RAY].results["test_accuracy"] = theirs
    figures = accuracy_figures([run], grid)
    assert len(figures) == len(SCRIPTS) * 4
    assert {one.reached for one in figures if SEQUENTIAL in one.name} == {True}
    assert {one.reached for one in figures if RAY in one.name} == {reached}


def test_how_far_training_is_compares_the_same_epoch_on_every_side() -> None:
    grid, part = Grid(images="", held_out=1), Grid(images="", held_out=1, epochs=2, seeds=(0,))
    asked = {OURS: grid, SEQUENTIAL: part, RAY: part}
    run = {side: steady(asked[side], start=1, trial_start=1, pace=1, side=side, at_once=1) for side in asked}
    lines = same_training(run)
    assert len(lines) == 4
    assert all("in epoch 2: " + ", ".join(f"1.000 ({side})" for side in asked) in line for line in lines)


# Early stopping


def test_both_grids_are_the_same_24_configurations_and_one_of_them_stops_early() -> None:
    full, cut = (
        parse_experiment(early_stopping.experiment(epochs=30, seeds=[0], early_stopping=stops), "grid.yaml")
        for stops in (False, True)
    )
    assert len(full.models) * len(full.weights) * len(full.strategies) == 24
    assert (full.models, full.weights, full.strategies) == (cut.models, cut.weights, cut.strategies)
    assert (full.asha_settings(), full.training.patience) == (None, 30)
    settings = cut.asha_settings()
    assert settings is not None
    assert (settings.grace_period, settings.group_by, cut.training.patience) == (
        3,
        ("dataset", "train_size", "seed"),
        None,
    )


def test_digits_are_split_so_that_test_accuracies_are_sharp() -> None:
    source = digits()
    images = [pair[0].tobytes() for split in ("train", "val", "test") for pair in source[split]]
    assert {split: len(source[split]) for split in HELD_OUT} == HELD_OUT
    assert len(images) == len(set(images)) == 1797


def trained(seconds: float, *accuracies: float, stopped: int = 0) -> pd.DataFrame:
    rows = [
        {
            "dataset": "digits",
            "train_size": 300,
            "model": f"model{number}",
            "weights": "random",
            "strategy": "fine-tune",
            "seed": seed,
            "status": "stopped" if number < stopped else "completed",
            "train_seconds": seconds,
            "epochs_run": 10,
            "val_accuracy": accuracy,
            "test_accuracy": accuracy,
        }
        for seed in (0, 1, 2)
        for number, accuracy in enumerate(accuracies)
    ]
    return pd.DataFrame(rows)


def test_the_winner_of_the_full_grid_is_lost_where_it_was_stopped() -> None:
    compute, winners, picks = early_stopping.figures(trained(10, 0.98, 0.9), trained(4, 0.7, 0.9, stopped=1))
    assert (compute.ratio, compute.reached) == (2.5, True)
    assert winners.ours == pytest.approx([8, 8, 8])
    assert (winners.reached, picks.reached) == (False, False)


def test_a_winner_that_was_trained_to_its_end_loses_nothing() -> None:
    compute, winners, picks = early_stopping.figures(trained(10, 0.9, 0.98), trained(6, 0.7, 0.98, stopped=1))
    assert compute.reached is False
    assert winners.ours == picks.ours == [0, 0, 0]
    assert (winners.reached, picks.reached) == (True, True)


# By hand


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder / "images"


def test_script_written_by_hand_learns_and_writes_a_row_a_trial_and_a_row_an_epoch(
    photos: Path, tmp_path: Path
) -> None:
    script = SCRIPTS[SEQUENTIAL]  # the other one calls the same training, from Ray
    done = python(
        *("-m", f"benchmarks.baselines.{script}", "--images", str(photos), "--output", str(tmp_path)),
        *("--models", "resnet18", "--seeds", "0", "--epochs", "3", "--batch-size", "8", "--image-size", "32"),
    )
    assert done.returncode == 0, done.stderr
    results, history = (pd.read_csv(tmp_path / f"{table}.csv") for table in ("results", "history"))
    assert sorted(results["strategy"]) == ["fine-tune", "linear-probe"]
    assert results["test_accuracy"].between(0, 1).all()
    fine_tuned = history[history["strategy"] == "fine-tune"].sort_values("epoch")
    assert fine_tuned["epoch"].tolist() == [1, 2, 3]
    assert fine_tuned["train_loss"].iloc[-1] < fine_tuned["train_loss"].iloc[0]
    assert (history["epoch_seconds"] > 0).all()
    assert results["seconds"].sum() > history["epoch_seconds"].sum()
