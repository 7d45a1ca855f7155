"""Result directories of Ray Tune that raybench did not write: one by a real script, the others by hand."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import raybench
from raybench.cli import app
from raybench.errors import InputError
from raybench.foreign import Kind, load_source
from raybench.ranking import rank
from raybench.recognize import parse_columns
from raybench.records import Status

SCRIPT = Path(__file__).parent / "plain_tune_script.py"
REPORT: dict[str, Any] = {"val_loss": 0.5, "val_accuracy": 0.8, "test_accuracy": 0.7, "time_total_s": 3.0}


def write_trial(
    folder: Path, reports: Sequence[Mapping[str, Any]] = (REPORT,), settings: Mapping[str, Any] | None = None
) -> Path:
    """Write a trial's folder as Ray Tune does."""
    folder.mkdir(parents=True)
    lines = [json.dumps({"training_iteration": place + 1} | dict(each)) for place, each in enumerate(reports)]
    (folder / "result.json").write_text("".join(line + "\n" for line in lines))
    (folder / "params.json").write_text(json.dumps({"model": "net"} if settings is None else settings))
    return folder


def write_state(path: Path, statuses: Mapping[str, str]) -> None:
    trials = [[json.dumps({"relative_logdir": name, "status": status}), "{}"] for name, status in statuses.items()]
    (path / "experiment_state-2026-01-01_00-00-00.json").write_text(json.dumps({"trial_data": trials}))


def printed(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["rank", *map(str, arguments)], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0, done.exception
    return done.output


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    variables = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_TRAIN_V2_ENABLED": "0"}
    command = [sys.executable, str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "theirs"


def test_results_of_a_plain_script_are_ranked_in_the_right_order(theirs: Path) -> None:
    ranking = raybench.rank(theirs)
    assert ranking["model"].to_list() == ["big_net", "small_net"]
    # of the epoch with the lowest val loss, a mean over two seeds, and a fraction
    assert ranking["test_accuracy"].to_list() == pytest.approx([0.805, 0.705])
    assert ranking["val_loss"].to_list() == pytest.approx([0.4] * 2)
    assert ranking["seeds"].to_list() == [2] * 2
    assert ranking["standalone_cost_usd"].to_list() == pytest.approx([0.25] * 2)
    assert (ranking["train_seconds"] > 0).all()


def test_rank_prints_which_columns_it_took_for_what(theirs: Path) -> None:
    said = " ".join(printed(theirs).split())
    for each in (
        "test_accuracy from holdout/acc_pct (percent)",
        "val_loss from valid_xent",
        "train_seconds from time_total_s",
        "standalone_cost_usd from gpu_dollars",
        "model from config/net/kind",
        "seed from config/rng",
    ):
        assert each in said
    assert said.index("big_net") < said.index("small_net")


def test_a_reader_can_say_which_columns_are_which(theirs: Path) -> None:
    text = printed(theirs, "--column", "val_accuracy=holdout/acc_pct", "--column", "model=batch", "--test-images", "50")
    assert "val_accuracy from holdout/acc_pct (percent)" in " ".join(text.split())
    assert "model from config/batch" in " ".join(text.split())
    source = load_source(theirs, parse_columns(["seed=config/batch"]))
    assert sorted(source.results["strategy"]) == ["rng=0", "rng=0", "rng=1", "rng=1"]


def test_epochs_of_the_trials_come_along(theirs: Path) -> None:
    source = load_source(theirs)
    assert source.kind is Kind.TUNE
    assert source.history is not None
    assert len(source.history) == 4 * 3
    assert source.history.groupby("trial_id")["epoch"].max().eq(3).all()


def test_nothing_is_unpickled_and_csv_is_read_where_there_is_no_json(theirs: Path, tmp_path: Path) -> None:
    shutil.copytree(theirs, tmp_path / "theirs")
    for pickled in tmp_path.rglob("*.pkl"):
        pickled.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for log in tmp_path.rglob("result.json"):
        log.unlink()
    columns = ["model", "strategy", "test_accuracy", "val_loss", "seeds"]
    pd.testing.assert_frame_equal(raybench.rank(tmp_path / "theirs")[columns], raybench.rank(theirs)[columns])


def test_best_epoch_is_the_one_with_the_lowest_val_loss(tmp_path: Path) -> None:
    reports = [
        {"loss": 0.9, "accuracy": 0.5, "time_this_iter_s": 2},
        {"loss": 0.3, "accuracy": 0.6, "time_this_iter_s": 2},
        {"loss": 0.7, "accuracy": 0.9, "time_this_iter_s": 2, "test_acc": 0.55},
    ]
    write_trial(tmp_path / "a", reports)
    (row,) = load_source(tmp_path).results.to_dict("records")
    assert (row["best_epoch"], row["val_loss"], row["val_accuracy"], row["epochs_run"]) == (2, 0.3, 0.6, 3)
    assert row["test_accuracy"] == 0.55, "tested at the end only"
    assert row["train_seconds"] == 6


def test_test_accuracy_alone_is_taken_from_the_last_epoch_not_the_luckiest(tmp_path: Path) -> None:
    write_trial(tmp_path / "a", [{"test_acc": 0.5}, {"test_acc": 0.9}, {"test_acc": 0.7}])
    assert load_source(tmp_path).results["test_accuracy"].to_list() == [0.7]


def test_loss_alone_orders_by_loss(tmp_path: Path) -> None:
    for name, loss in {"worse": 0.9, "better": 0.2, "middle": 0.5}.items():
        write_trial(tmp_path / name, [{"mean_loss": loss}], {"arch": name})
    assert raybench.rank(tmp_path)["model"].to_list() == ["better", "middle", "worse"]
    assert printed(tmp_path).index("better") < printed(tmp_path).index("worse")


def test_how_trials_ended_is_read_from_tunes_own_state(tmp_path: Path) -> None:
    for name in ("done", "broken", "running", "silent"):
        write_trial(tmp_path / name, () if name == "silent" else (REPORT,), {"model": name})
    write_state(tmp_path, {"done": "TERMINATED", "broken": "ERROR", "running": "RUNNING", "silent": "PENDING"})
    source = load_source(tmp_path)
    assert source.results.set_index("model")["status"].to_dict() == {
        "done": Status.COMPLETED,
        "broken": Status.FAILED,
        "running": Status.UNFINISHED,
        "silent": Status.UNFINISHED,
    }
    assert "1 of 4 trials reported nothing." in source.notes
    assert rank(source.results)["model"][0] == "done"


def test_without_a_state_an_error_file_says_that_a_trial_failed(tmp_path: Path) -> None:
    write_trial(tmp_path / "a")
    (write_trial(tmp_path / "b") / "error.txt").write_text("boom")
    (tmp_path / "experiment_state-1.json").write_text("{half")
    assert load_source(tmp_path).results["status"].to_list() == [Status.COMPLETED, Status.FAILED]


def test_lines_cut_off_by_a_crash_are_left_out_and_counted(tmp_path: Path) -> None:
    first, second = (write_trial(tmp_path / name, [REPORT] * 3) for name in "ab")
    text = (first / "result.json").read_text()
    (first / "result.json").write_text(text[:-20])
    (second / "result.json").write_text("[]\nnot json\n" + text)
    (second / "params.json").write_text("{")
    source = load_source(tmp_path)
    assert source.results["epochs_run"].to_list() == [2, 3]
    assert "4 lines or files could not be read and were left out." in source.notes
    assert any("reported 2 to 3 times" in note for note in source.notes)


def test_nan_and_reports_with_other_columns_are_missing_values(tmp_path: Path) -> None:
    write_trial(tmp_path / "a", [{"val_loss": float("nan"), "val_acc": 0.5}, {"val_loss": 0.4, "val_acc": 0.6}])
    write_trial(tmp_path / "b", [{"val_loss": 0.3, "val_acc": None, "extra": {"deep": [1]}}], {"model": "other"})
    write_trial(tmp_path / "c", [{"val_acc": "0.7", "iterations": 9}], {"model": {"name": "third"}})
    rows = load_source(tmp_path).results
    assert rows["val_loss"].fillna(-1).to_list() == [0.4, 0.3, -1]
    assert rows["val_accuracy"].fillna(-1).to_list() == [0.6, -1, 0.7]
    assert len(rank(rows)) == 3


def test_names_that_would_run_in_a_terminal_are_shown_harmlessly(tmp_path: Path) -> None:
    write_trial(tmp_path / "a", [{"val_acc\x1b[2J": 0.5}], {"model": "=1+1\x1b[2J", "seed": 1})
    text = printed(tmp_path)
    assert "\x1b[2J" not in text
    assert "val_accuracy from val_acc?[2J" in " ".join(text.split())


def test_repeats_of_the_same_settings_count_as_seeds(tmp_path: Path) -> None:
    for name in "abc":
        write_trial(tmp_path / name, [REPORT], {"model": "net", "seed": 7, "lr": 0.1})
    source = load_source(tmp_path)
    assert source.results["seed"].to_list() == [0, 1, 2]
    assert any("count as seeds" in note for note in source.notes)
    assert rank(source.results)["seeds"].to_list() == [3]


def test_a_setting_that_is_off_everywhere_else_makes_the_others_plain(tmp_path: Path) -> None:
    for name, flip in (("a", False), ("b", True)):
        write_trial(tmp_path / name, [REPORT], {"model": "net", "augment": flip})
    assert load_source(tmp_path).results["strategy"].to_list() == ["plain", "augment"]


def test_settings_that_differ_name_the_strategy(tmp_path: Path) -> None:
    for name, lr, nesterov in (("a", 0.1, True), ("b", 0.01, False)):
        settings = {"opt": {"lr": lr, "nesterov": nesterov}, "layers": [1, 2], "epochs": 3, "dataset": "digits"}
        write_trial(tmp_path / name, [REPORT], settings)
    rows = load_source(tmp_path).results
    assert rows["strategy"].to_list() == ["opt/lr=0.1+opt/nesterov", "opt/lr=0.01"]
    assert rows["dataset"].to_list() == ["digits"] * 2
    assert rows["model"].to_list() == [tmp_path.name] * 2


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        ([], "none of its 1 trials reported anything"),
        (
            [{"reward": 3.0, "step": 1}],
            r"no accuracy among what its trials report \(training_iteration, reward, step\)",
        ),
        ([{"val_acc": 84.0}, {"val_acc": 3000}], "val_acc goes from 84 to 3000, which is no accuracy"),
        ([{"val_acc": -1}], "val_acc goes from -1 to -1"),
    ],
)
def test_what_holds_no_accuracy_is_refused_with_the_reason(
    tmp_path: Path, reports: list[dict[str, Any]], message: str
) -> None:
    write_trial(tmp_path / "a", reports)
    with pytest.raises(InputError, match=message):
        load_source(tmp_path)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    write_trial(tmp_path / "a")
    with pytest.raises(InputError, match="model=arch: there is no such column; there are model"):
        load_source(tmp_path, parse_columns(["model=arch"]))
    with pytest.raises(InputError, match=r"test_accuracy=acc: .* there are training_iteration, val_loss"):
        load_source(tmp_path, parse_columns(["test_accuracy=acc"]))


def test_an_interrupted_or_empty_experiment_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, {})
    with pytest.raises(InputError, match="holds no trial of Ray Tune"):
        load_source(tmp_path)
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "params.json").write_text("{")
    with pytest.raises(InputError, match="none of its 1 trials reported anything; 1 lines or files cannot be read"):
        load_source(tmp_path)


def test_ten_thousand_trials_are_read(tmp_path: Path) -> None:
    for number in range(10_000):
        settings = {"model": f"net{number % 50}", "seed": number // 50}
        write_trial(tmp_path / f"trial{number:05}", [REPORT | {"val_loss": 0.1 + number % 7}] * 2, settings)
    source = load_source(tmp_path)
    assert len(source.results) == 10_000
    assert source.results["seed"].nunique() == 200
