import math
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.errors import RunError
from raybench.ranking import rank
from raybench.records import (
    SCHEMA_VERSION,
    EpochRecord,
    Status,
    Trial,
    TrialResult,
)
from raybench.results import (
    HISTORY_SCHEMA,
    PREDICTIONS_SCHEMA,
    RESULTS_ORDER,
    RESULTS_SCHEMA,
    Predictions,
    finished_trial_ids,
    load_history,
    load_outcomes,
    load_predictions,
    load_results,
    match_trials,
    write_trial,
)
from tests.builders import make_trial

STARTED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def result(trial_id: str = "abc", **columns: Any) -> TrialResult:  # noqa: ANN401, any field
    known: dict[str, Any] = {
        "trial_id": trial_id,
        "dataset": "digits",
        "train_size": 100,
        "model": "resnet8",
        "weights": "random",
        "strategy": "fine-tune",
        "augmentation": "none",
        "seed": 0,
        "status": Status.COMPLETED,
        "test_accuracy": 0.5,
        "test_per_class_recall": (0.25, None, 1.0),
        "started_at": STARTED,
    }
    return TrialResult(**(known | columns))


def epochs(trial_id: str = "abc", count: int = 2) -> list[EpochRecord]:
    return [
        EpochRecord(
            trial_id=trial_id,
            phase=1,
            epoch=epoch,
            train_loss=1.0,
            train_accuracy=0.5,
            val_loss=math.nan,
            val_accuracy=0.5,
            learning_rate=0.1,
            epoch_seconds=2.0,
            images_per_second=50.0,
        )
        for epoch in range(1, count + 1)
    ]


PREDICTIONS = Predictions(
    images=("a/1.jpg", "b/2.jpg"),
    labels=np.array([0, 1]),
    predicted=np.array([0, 0]),
    probabilities=np.array([[0.75, 0.25], [0.5, 0.5]]),
)


def test_columns_are_those_of_the_contract() -> None:
    assert RESULTS_SCHEMA.names == [field.name for field in fields(TrialResult)]
    assert RESULTS_SCHEMA.names[:5] == ["trial_id", "dataset", "train_size", "model", "weights"]
    assert RESULTS_SCHEMA.names[-1] == "schema_version"
    assert RESULTS_SCHEMA.field("test_per_class_recall").type == pa.list_(pa.float64())
    assert RESULTS_SCHEMA.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert HISTORY_SCHEMA.names == [
        *["trial_id", "phase", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"],
        *["learning_rate", "epoch_seconds", "images_per_second"],
    ]
    assert PREDICTIONS_SCHEMA.names == ["trial_id", "image", "label", "predicted", "probabilities"]


def test_trial_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_trial(tmp_path, result(), epochs(), PREDICTIONS)
    row = load_results(tmp_path).iloc[0]
    assert row["status"] == Status.COMPLETED
    assert row["started_at"] == STARTED
    np.testing.assert_array_equal(row["test_per_class_recall"], [0.25, np.nan, 1.0])
    assert pd.isna(row["error"])
    assert math.isnan(row["val_loss"])
    history = load_history(tmp_path)
    assert history["epoch"].tolist() == [1, 2]
    predictions = load_predictions(tmp_path)
    assert predictions["image"].tolist() == ["a/1.jpg", "b/2.jpg"]
    np.testing.assert_array_equal(np.stack(list(predictions["probabilities"])), PREDICTIONS.probabilities)


@settings(max_examples=25, deadline=None)
@given(
    accuracy=st.one_of(st.none(), st.floats(0, 1)),
    error=st.one_of(st.none(), st.text(max_size=20)),
    recalls=st.one_of(st.none(), st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=4).map(tuple)),
)
def test_any_row_survives_storage(
    tmp_path_factory: pytest.TempPathFactory,
    accuracy: float | None,
    error: str | None,
    recalls: tuple[float | None, ...] | None,
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    write_trial(run_dir, result(test_accuracy=accuracy, error=error, test_per_class_recall=recalls), [], None)
    row = pq.read_table(run_dir / "results" / "abc.parquet").to_pylist()[0]
    assert row["test_accuracy"] == accuracy
    assert row["error"] == error
    assert row["test_per_class_recall"] == (None if recalls is None else list(recalls))


def test_nothing_yet_gives_empty_frames_with_all_columns(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    assert load_results(tmp_path).columns.tolist() == RESULTS_SCHEMA.names
    assert load_history(tmp_path).columns.tolist() == HISTORY_SCHEMA.names
    assert load_predictions(tmp_path).columns.tolist() == PREDICTIONS_SCHEMA.names
    assert finished_trial_ids(tmp_path) == {}


def test_trial_without_a_row_has_not_ended_and_leaves_no_trace(tmp_path: Path) -> None:
    write_trial(tmp_path, result("ended"), epochs("ended"), PREDICTIONS)
    write_trial(tmp_path, result("crashed"), epochs("crashed"), PREDICTIONS)
    (tmp_path / "results" / "crashed.parquet").unlink()
    assert finished_trial_ids(tmp_path) == {"ended": Status.COMPLETED}
    assert set(load_history(tmp_path)["trial_id"]) == {"ended"}
    assert set(load_predictions(tmp_path)["trial_id"]) == {"ended"}


def test_results_row_is_the_last_to_appear(tmp_path: Path) -> None:
    (tmp_path / "predictions").touch()  # a file in place of the folder: predictions cannot be written
    with pytest.raises(OSError, match="predictions"):
        write_trial(tmp_path, result(), epochs(), PREDICTIONS)
    assert (tmp_path / "history" / "abc.parquet").exists()
    assert not (tmp_path / "results").exists()


def test_writing_again_replaces_the_earlier_attempt(tmp_path: Path) -> None:
    write_trial(tmp_path, result(status=Status.COMPLETED), epochs(count=5), PREDICTIONS)
    write_trial(tmp_path, result(status=Status.FAILED, error="out of memory"), epochs(count=1), None)
    assert load_results(tmp_path)["status"].tolist() == [Status.FAILED]
    assert len(load_history(tmp_path)) == 1
    assert load_predictions(tmp_path).empty


def test_no_temporary_file_is_left_or_read(tmp_path: Path) -> None:
    write_trial(tmp_path, result(), epochs(), PREDICTIONS)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["abc.parquet"] * 3
    (tmp_path / "results" / ".xyz.parquet.17").write_bytes(b"half a file")
    (tmp_path / "results" / ".xyz.parquet").write_bytes(b"half a file")
    assert len(load_results(tmp_path)) == 1


def test_trials_no_longer_wanted_are_left_out(tmp_path: Path) -> None:
    for trial_id in ("old", "new"):
        write_trial(tmp_path, result(trial_id), epochs(trial_id), PREDICTIONS)
    assert load_results(tmp_path, only={"new", "planned"})["trial_id"].tolist() == ["new"]
    assert set(load_history(tmp_path, only=["new"])["trial_id"]) == {"new"}
    assert load_predictions(tmp_path, only=[]).empty


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_trial(tmp_path, result(), epochs(), PREDICTIONS)
    assert set(load_results(tmp_path, columns=RESULTS_ORDER)) == set(RESULTS_ORDER)


def test_rows_come_in_an_order_of_their_own(tmp_path: Path) -> None:
    for trial_id, size, seed in [("a", 200, 0), ("b", 100, 1), ("c", 100, 0)]:
        write_trial(tmp_path, result(trial_id, train_size=size, seed=seed), [], None)
    assert load_results(tmp_path)["trial_id"].tolist() == ["c", "b", "a"]


@pytest.mark.parametrize("make", [Path.exists, Path.mkdir, Path.touch])
def test_folder_that_is_no_run_directory_is_named(tmp_path: Path, make: Any) -> None:  # noqa: ANN401, a case
    make(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"nowhere: not a run directory.*give a folder that `raybench run` wrote"):
        load_results(tmp_path / "nowhere")


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    write_trial(tmp_path, result("fine"), [], None)
    (tmp_path / "results" / "broken.parquet").write_bytes(b"not parquet")
    with pytest.raises(RunError, match=r"results/broken\.parquet: cannot be read as Parquet"):
        load_results(tmp_path)


def test_results_of_a_newer_raybench_are_refused(tmp_path: Path) -> None:
    write_trial(tmp_path, result("a", schema_version=SCHEMA_VERSION), [], None)
    write_trial(tmp_path, result("b", schema_version=SCHEMA_VERSION + 1), [], None)
    with pytest.raises(RunError, match=f"schema version {SCHEMA_VERSION + 1}.* up to {SCHEMA_VERSION}"):
        load_results(tmp_path)


def test_results_of_an_older_raybench_are_read_with_missing_columns_empty(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    old = pa.Table.from_pylist([{"trial_id": "a", "status": "completed", "dataset": "digits", "schema_version": 0}])
    pq.write_table(old, tmp_path / "results" / "a.parquet")
    read = load_results(tmp_path)
    assert read.columns.tolist() == RESULTS_SCHEMA.names
    assert read["test_accuracy"].isna().all()
    write_trial(tmp_path, result("b"), [], None)
    assert load_results(tmp_path).set_index("trial_id")["test_accuracy"].isna().to_dict() == {"a": True, "b": False}


def test_columns_in_another_order_or_of_another_width_are_read_as_the_schema_says(tmp_path: Path) -> None:
    write_trial(tmp_path, result(), [], None)
    path = tmp_path / "results" / "abc.parquet"
    rows = pq.read_table(path)
    seeds = rows["seed"].cast(pa.int16())
    pq.write_table(rows.drop_columns(["seed"]).add_column(0, "seed", seeds), path)
    read = load_results(tmp_path)
    assert read.columns.tolist() == RESULTS_SCHEMA.names
    assert read["seed"].dtype == "int64"


def test_column_of_another_type_is_named_with_its_file(tmp_path: Path) -> None:
    write_trial(tmp_path, result(), [], None)
    path = tmp_path / "results" / "abc.parquet"
    rows = pq.read_table(path).drop_columns(["seed"])
    pq.write_table(rows.append_column("seed", pa.array(["first"])), path)
    with pytest.raises(RunError, match=r"results/abc\.parquet: cannot be read as Parquet .*first"):
        load_results(tmp_path)


def test_outcomes_say_which_images_each_ended_trial_got_right(tmp_path: Path) -> None:
    backward = Predictions(**{name: getattr(PREDICTIONS, name)[::-1] for name in Predictions.__slots__})
    write_trial(tmp_path, result("forward"), [], PREDICTIONS)
    write_trial(tmp_path, result("backward"), [], backward)
    write_trial(tmp_path, result("crashed"), [], PREDICTIONS)
    (tmp_path / "results" / "crashed.parquet").unlink()
    outcomes = load_outcomes(tmp_path)
    assert set(outcomes) == {"forward", "backward"}
    assert outcomes["forward"].images == outcomes["backward"].images
    assert [each.correct.tolist() for each in outcomes.values()] == [[True, False]] * 2
    assert set(load_outcomes(tmp_path, only=["forward"])) == {"forward"}


def test_trial_without_test_images_has_no_outcome(tmp_path: Path) -> None:
    nothing = Predictions(
        images=(), labels=np.zeros(0, int), predicted=np.zeros(0, int), probabilities=np.zeros((0, 2))
    )
    write_trial(tmp_path, result(), [], nothing)
    assert load_outcomes(tmp_path) == {}


def test_unknown_status_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    pq.write_table(
        pa.Table.from_pylist([{"trial_id": "a", "status": "odd", "schema_version": 1}], schema=RESULTS_SCHEMA),
        tmp_path / "results" / "a.parquet",
    )
    with pytest.raises(RunError, match=r"a\.parquet: status 'odd' is unknown"):
        finished_trial_ids(tmp_path)


def planned(trial_id: str, seed: int) -> Trial:
    return make_trial(trial_id, seed=seed)


@pytest.mark.parametrize("ended", [["a", "gone"], []])
def test_trials_without_a_row_are_added_as_unfinished(tmp_path: Path, ended: list[str]) -> None:
    (tmp_path / "results").mkdir()
    for trial_id in ended:
        write_trial(tmp_path, result(trial_id, seed=0), [], None)
    completed = match_trials(load_results(tmp_path), [planned("a", 0), planned("b", 1)])
    assert completed["trial_id"].tolist() == ["a", "b"]
    assert completed["status"].tolist() == ["completed" if ended else "unfinished", "unfinished"]
    ranking = rank(completed)
    assert ranking["stopped"].tolist() == [0 if ended else 2], "left aside where another seed has completed"
    assert pd.api.types.is_integer_dtype(completed["seed"])


def test_columns_that_were_not_read_are_not_added_for_unfinished_trials(tmp_path: Path) -> None:
    write_trial(tmp_path, result("a"), [], None)
    columns = ["trial_id", "status", *RESULTS_ORDER]
    matched = match_trials(load_results(tmp_path, columns=columns), [planned("a", 0), planned("b", 1)])
    assert set(matched) == set(columns)
    assert matched["status"].tolist() == ["completed", "unfinished"]


def test_nothing_is_added_when_every_trial_has_ended(tmp_path: Path) -> None:
    write_trial(tmp_path, result("a"), [], None)
    assert len(match_trials(load_results(tmp_path), [planned("a", 0)])) == 1
