"""One trial from its record to its rows on disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raybench.checkpoint_paths import state_path, weights_path
from raybench.records import Allocation, EpochRecord, Status, Verdict
from raybench.results import load_history, load_predictions, load_results, write_trial
from raybench.training.execute import run
from raybench.training.weight_files import read_card, read_tensors
from tests.builders import TRIAL

ALLOCATION = Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=1)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def go_on(_: EpochRecord) -> Verdict:
    return Verdict.GO_ON


class Listener:
    """Keeps what it is told; asked to, dies as a worker does."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.seen: list[EpochRecord] = []
        self._dies_at = dies_at

    def __call__(self, record: EpochRecord) -> Verdict:
        self.seen.append(record)
        if record.epoch == self._dies_at:
            raise SystemExit
        return Verdict.GO_ON


def test_a_trial_leaves_its_row_history_predictions_and_weights(tmp_path: Path) -> None:
    listener = Listener()
    result = run(TRIAL, run_dir=tmp_path, allocation=ALLOCATION, on_epoch=listener)
    row = load_results(tmp_path).iloc[0]
    assert row["status"] == Status.COMPLETED == result.status
    assert row["test_accuracy"] == result.test_accuracy
    assert len(row["test_per_class_recall"]) == 10
    assert row["epochs_run"] == 3 == len(listener.seen)
    assert row["parameters"] == row["trainable_parameters"] == 75290
    assert row["train_seconds"] > 0
    assert row["peak_memory_bytes"] > 10_000_000
    assert load_history(tmp_path)["epoch"].tolist() == [1, 2, 3]
    predictions = load_predictions(tmp_path)
    assert len(predictions) == 300
    assert (predictions["label"] == predictions["predicted"]).mean() == pytest.approx(result.test_accuracy)
    weights = weights_path(tmp_path, TRIAL.trial_id)
    assert sum(tensor.numel() for tensor in read_tensors(weights).values()) >= 75290
    assert read_card(weights).classes == tuple("0123456789")
    assert not state_path(tmp_path, TRIAL.trial_id).exists()


def test_a_trial_whose_row_is_there_is_not_trained_again(tmp_path: Path) -> None:
    first = run(TRIAL, run_dir=tmp_path, allocation=ALLOCATION, on_epoch=go_on)

    def never(record: EpochRecord) -> Verdict:
        raise AssertionError(record)

    assert run(TRIAL, run_dir=tmp_path, allocation=ALLOCATION, on_epoch=never) == first


def test_a_stopped_trial_is_scored_with_its_best_epoch_so_far(tmp_path: Path) -> None:
    result = run(TRIAL, run_dir=tmp_path, allocation=ALLOCATION, on_epoch=after_two(Verdict.STOP))
    assert result.status is Status.STOPPED
    assert result.epochs_run == 2
    assert result.test_accuracy is not None


def after_two(verdict: Verdict) -> Callable[[EpochRecord], Verdict]:
    return lambda record: verdict if record.epoch == 2 else Verdict.GO_ON


def test_a_paused_trial_says_how_far_it_came_and_goes_on_to_the_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    undisturbed = run(TRIAL, run_dir=tmp_path / "a", allocation=ALLOCATION, on_epoch=go_on)
    paused = run(TRIAL, run_dir=tmp_path / "b", allocation=ALLOCATION, on_epoch=after_two(Verdict.PAUSE))
    assert (paused.status, paused.epochs_run) == (Status.UNFINISHED, 2)
    assert paused.val_loss == load_history(tmp_path / "b")["val_loss"].min()
    assert paused.test_accuracy is None, "the test split is looked at once, at the end"
    assert load_predictions(tmp_path / "b").empty

    later = Listener()
    resumed = run(TRIAL, run_dir=tmp_path / "b", allocation=ALLOCATION, on_epoch=later)

    assert resumed.status is Status.COMPLETED
    assert later.seen[:2] == [each for each in later.seen if each.epoch <= 2]
    same = ("val_loss", "test_loss", "test_accuracy", "best_epoch", "epochs_run", "test_per_class_recall")
    assert [getattr(resumed, name) for name in same] == [getattr(undisturbed, name) for name in same]
    assert not state_path(tmp_path / "b", TRIAL.trial_id).exists()


def test_a_trial_that_is_to_pause_after_its_last_epoch_ends_instead(tmp_path: Path) -> None:
    def pause(record: EpochRecord) -> Verdict:
        return Verdict.PAUSE if record.epoch == 3 else Verdict.GO_ON

    result = run(TRIAL, run_dir=tmp_path, allocation=ALLOCATION, on_epoch=pause)
    assert result.status is Status.COMPLETED
    assert result.test_accuracy is not None


def test_an_error_leaves_no_row(tmp_path: Path) -> None:
    def fail(_: EpochRecord) -> Verdict:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        run(TRIAL, run_dir=tmp_path, allocation=ALLOCATION, on_epoch=fail)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_trial_goes_on_from_its_checkpoint_or_begins_again_where_it_is_half_written(
    tmp_path: Path, whole: bool
) -> None:
    undisturbed = run(TRIAL, run_dir=tmp_path / "a", allocation=ALLOCATION, on_epoch=go_on)
    first, second = Listener(dies_at=2), Listener()
    interrupted = tmp_path / "b"
    with pytest.raises(SystemExit):
        run(TRIAL, run_dir=interrupted, allocation=ALLOCATION, on_epoch=first, checkpoint_seconds=0.0)
    path = state_path(interrupted, TRIAL.trial_id)
    if not whole:
        path.write_bytes(path.read_bytes()[:-1000])
    resumed = run(TRIAL, run_dir=interrupted, allocation=ALLOCATION, on_epoch=second)
    assert [record.epoch for record in second.seen] == [1, 2, 3], "epochs that the checkpoint holds are told again"
    assert (second.seen[0].epoch_seconds == first.seen[0].epoch_seconds) is whole
    same = ("val_loss", "test_loss", "test_accuracy", "best_epoch", "epochs_run", "test_per_class_recall")
    assert [getattr(resumed, name) for name in same] == [getattr(undisturbed, name) for name in same]
    assert load_history(interrupted)["val_loss"].tolist() == load_history(tmp_path / "a")["val_loss"].tolist()


def test_a_failed_row_does_not_keep_its_trial_from_running_again(tmp_path: Path) -> None:
    result = run(TRIAL, run_dir=tmp_path / "a", allocation=ALLOCATION, on_epoch=go_on)
    write_trial(tmp_path / "b", replace(result, status=Status.FAILED, error="lost"), [], None)
    again = run(TRIAL, run_dir=tmp_path / "b", allocation=ALLOCATION, on_epoch=go_on)
    assert again.status is Status.COMPLETED
