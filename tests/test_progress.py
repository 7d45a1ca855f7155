"""The progress display: plain lines, the live table, and nothing when quiet."""

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from raybench.board import Board
from raybench.errors import InputError
from raybench.events import EpochDone, Event, Notice, TrialEnded, TrialStarted
from raybench.formats import duration_text
from raybench.learning_rates import TUNING_SEED
from raybench.progress import Progress, render, rough_duration_text, summary, tell_problems
from raybench.records import EpochRecord, Status, Trial
from tests import builders
from tests.builders import PHASE

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def make_trial(trial_id: str, *, size: int = 400, epochs: int = 12, **changes: Any) -> Trial:  # noqa: ANN401 - any field
    return builders.make_trial(trial_id, replace(PHASE, epochs=epochs, patience=2), train_size=size, **changes)


def epoch(trial_id: str, number: int, *, seconds: float = 1.0) -> EpochDone:
    return EpochDone(
        record=EpochRecord(
            trial_id=trial_id,
            phase=1,
            epoch=number,
            train_loss=0.4,
            train_accuracy=0.9,
            val_loss=0.3217,
            val_accuracy=0.9,
            learning_rate=1e-3,
            epoch_seconds=seconds,
            images_per_second=400.0,
        )
    )


def ended(
    trial_id: str, accuracy: float | None = 0.9, *, status: Status = Status.COMPLETED, error: str | None = None
) -> TrialEnded:
    return TrialEnded(trial_id=trial_id, status=status, val_accuracy=accuracy, error=error)


def whole_trial(trial_id: str, epochs: int, accuracy: float, *, seconds: float = 1.0) -> Iterator[Event]:
    yield TrialStarted(trial_id=trial_id)
    for number in range(1, epochs + 1):
        yield epoch(trial_id, number, seconds=seconds)
    yield ended(trial_id, accuracy)


def board_of(trials: list[Trial], *events: Event, earlier: tuple[TrialEnded, ...] = ()) -> Board:
    board = Board(trials, earlier=earlier, now=NOON)
    for event in events:
        board.feed(event)
    return board


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=80)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_each_finished_trial_gets_one_line() -> None:
    trials = [make_trial(f"t{index}", seed=index) for index in range(12)]
    console = plain_console()
    with Progress(trials, console) as progress:
        for event in whole_trial("t1", 9, 0.9531, seconds=0.34):
            progress(event)
    first, last = text_of(console).splitlines()
    assert first == "[ 1/12] resnet8 random fine-tune · digits 400 · seed 1: val accuracy 0.953 after 9 epochs (3.1 s)"
    assert last.startswith("1/12 done · 0 stopped · 0 failed")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ended("t0", 0.611, status=Status.STOPPED), "stopped at val accuracy 0.611 after 1 epoch (1.0 s)"),
        (
            ended("t0", None, status=Status.FAILED, error="Traceback\nRuntimeError: no [memory]"),
            "failed: RuntimeError: no [memory]",
        ),
        (ended("t0", 0.5, status=Status.UNFINISHED), "unfinished, kept at val accuracy 0.500 after 1 epoch (1.0 s)"),
        (ended("t0", None, status=Status.UNFINISHED), "unfinished, kept at val accuracy unknown after 1 epoch (1.0 s)"),
    ],
)
def test_line_says_how_a_trial_ended(event: TrialEnded, expected: str) -> None:
    console = plain_console()
    with Progress([make_trial("t0")], console) as progress:
        for earlier in (TrialStarted(trial_id="t0"), epoch("t0", 1), event):
            progress(earlier)
    assert text_of(console).splitlines()[0].endswith(f"seed 0: {expected}")


def test_a_trial_that_is_to_go_on_counts_as_none_that_is_done() -> None:
    trials = [make_trial(f"t{seed}", seed=seed) for seed in range(3)]
    console = plain_console()
    with Progress(trials, console) as progress:
        for event in (*whole_trial("t0", 2, 0.9), ended("t1", status=Status.UNFINISHED), *whole_trial("t2", 2, 0.9)):
            progress(event)
    lines = text_of(console).splitlines()
    assert [line.partition("/")[0] for line in lines] == ["[1", "[1", "[2", "2"]


def test_a_session_that_ends_before_its_first_trial_leaves_no_summary_of_earlier_ones() -> None:
    console = plain_console()
    with (
        pytest.raises(InputError, match="no Ray there"),
        Progress([make_trial("t0"), make_trial("t1", seed=1)], console, earlier=[ended("t0")], begun=["t1"]),
    ):
        raise InputError("no Ray there")
    assert text_of(console) == ""


def test_quiet_shows_nothing_at_all() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with Progress([make_trial("t0")], console, quiet=True) as progress:
        for event in whole_trial("t0", 2, 0.9):
            progress(event)
    assert text_of(console) == ""


def test_problems_beside_the_trials_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    tell_problems(["mlflow was not told everything: [b]no server[/b]"])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Problem: mlflow was not told everything: [b]no server[/b]\n"


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    trials = [make_trial("t0", model="pkg.[bold]net[/]")]
    console = plain_console()
    with Progress(trials, console) as progress:
        for event in whole_trial("t0", 1, 0.9):
            progress(event)
    assert "pkg.[bold]net[/]" in text_of(console)
    live = Console(file=io.StringIO(), width=120)
    live.print(render(board_of(trials, TrialStarted(trial_id="t0")), NOON, rows=10))
    assert "pkg.[bold]net[/]" in text_of(live)


def test_console_without_unicode_gets_plain_characters() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=80)
    with Progress([make_trial("t0", model="rés")], console) as progress:
        for event in whole_trial("t0", 1, 0.9):
            progress(event)
    assert b"r?s random fine-tune - digits 400 - seed 0" in raw.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_live_display_fits_the_terminal(width: int) -> None:
    trials = [
        make_trial(f"t{index}", model="a_model_with_a_rather_long_name" * 3, size=100 + index) for index in range(40)
    ]
    board = board_of(trials, *(TrialStarted(trial_id=trial.trial_id) for trial in trials), epoch("t0", 3))
    console = Console(file=io.StringIO(), width=width)
    console.print(render(board, NOON, rows=16))
    lines = text_of(console).splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= 24
    assert any("3/12    0.3217" in line for line in lines)
    assert "and 32 more" in text_of(console)


def test_terminal_shows_failures_above_the_table_and_takes_the_table_away() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with Progress([make_trial("t0"), make_trial("t1", seed=1)], console) as progress:
        progress(TrialStarted(trial_id="t0"))
        progress(ended("t0", None, status=Status.FAILED, error="boom"))
        for event in whole_trial("t1", 2, 0.9):
            progress(event)
    shown = text_of(console)
    assert "[1/2] resnet8 random fine-tune · digits 400 · seed 0: failed: boom" in shown
    assert "seed 1: val accuracy" not in shown
    assert shown.rstrip().splitlines()[-1].find("2/2 done · 0 stopped · 1 failed") >= 0


def test_leader_has_the_highest_mean_over_its_seeds() -> None:
    trials = [make_trial(f"a{seed}", model="a", seed=seed) for seed in range(3)]
    trials += [make_trial(f"b{seed}", model="b", seed=seed) for seed in range(3)]
    board = board_of(trials, ended("a0", 0.99), ended("a1", 0.71), ended("b0", 0.9), ended("b1", 0.92))
    (leader,) = board.leaders()
    assert (leader.configuration, leader.seeds_ended, leader.seeds) == ("b random fine-tune", 2, 3)
    assert leader.val_accuracy == pytest.approx(0.91)


@pytest.mark.parametrize("status", [Status.STOPPED, Status.COMPLETED])
def test_trial_that_starts_again_counts_for_its_configuration_as_it_ends_anew(status: Status) -> None:
    trials = [make_trial("a0", model="a"), make_trial("b0", model="b")]
    again: list[Event] = [ended("a0", 0.99, status=status), TrialStarted(trial_id="a0")]
    board = board_of(trials, ended("b0", 0.5), *again)
    assert [leader.configuration for leader in board.leaders()] == ["b random fine-tune"]
    board.feed(ended("a0", 0.6))
    assert [(leader.configuration, leader.val_accuracy) for leader in board.leaders()] == [("a random fine-tune", 0.6)]


@pytest.mark.parametrize("status", [Status.STOPPED, Status.FAILED])
def test_configuration_with_a_stopped_or_failed_seed_never_leads(status: Status) -> None:
    trials = [make_trial("a0", model="a"), make_trial("a1", model="a", seed=1), make_trial("b0", model="b")]
    board = board_of(trials, ended("a0", 0.99), ended("a1", 0.99, status=status), ended("b0", 0.5))
    assert [leader.configuration for leader in board.leaders()] == ["b random fine-tune"]


def test_every_dataset_and_size_has_its_own_leader() -> None:
    trials = [make_trial("small", size=100), make_trial("large", size=400)]
    small, large = board_of(trials, ended("large", 0.9)).leaders()
    assert (small.train_size, small.configuration) == (100, "")
    assert (large.train_size, large.configuration) == (400, "resnet8 random fine-tune")


def test_weights_from_a_file_are_shown_by_file_name() -> None:
    (leader,) = board_of([make_trial("t0", weights="/somewhere/deep/mine.safetensors")], ended("t0", 0.9)).leaders()
    assert leader.configuration == "resnet8 mine.safetensors fine-tune"


def test_trials_done_before_count_as_done_and_may_lead() -> None:
    board = board_of([make_trial("t0"), make_trial("t1", seed=1)], earlier=(ended("t0", 0.9), ended("unknown", 0.9)))
    assert summary(board, NOON).plain.startswith("1/2 done")
    assert board.leaders()[0].val_accuracy == 0.9


def test_expected_end_is_unknown_before_the_first_epoch() -> None:
    board = board_of([make_trial("t0")], TrialStarted(trial_id="t0"))
    assert board.remaining_seconds(NOON + timedelta(seconds=5)) is None
    assert "~" not in summary(board, NOON + timedelta(seconds=5)).plain


def test_expected_end_follows_from_epochs_done_and_to_go() -> None:
    trials = [make_trial("t0", epochs=10), make_trial("t1", seed=1, epochs=10)]
    board = board_of(trials, *whole_trial("t0", 10, 0.9, seconds=2.0))
    # Ten epochs of 2 s took 30 s by the clock, so ten more take 30 s.
    assert board.remaining_seconds(NOON + timedelta(seconds=30)) == pytest.approx(30.0)
    assert "~30 s to go, ends ~12:01" in summary(board, NOON + timedelta(seconds=30)).plain


def test_expected_end_scales_with_images_where_a_size_was_not_seen_yet() -> None:
    trials = [make_trial("t0", size=100, epochs=10), make_trial("t1", size=1000, epochs=10)]
    board = board_of(trials, *whole_trial("t0", 10, 0.9, seconds=1.0))
    assert board.remaining_seconds(NOON + timedelta(seconds=10)) == pytest.approx(100.0)


def test_expected_end_takes_patience_of_ended_trials_into_account() -> None:
    trials = [make_trial("t0", epochs=10), make_trial("t1", seed=1, epochs=10)]
    board = board_of(trials, *whole_trial("t0", 5, 0.9, seconds=1.0))
    assert board.remaining_seconds(NOON + timedelta(seconds=5)) == pytest.approx(5.0)


def test_expected_end_counts_the_epochs_that_a_running_trial_has_done() -> None:
    trials = [make_trial("t0", epochs=10), make_trial("t1", seed=1, epochs=10)]
    board = board_of(trials, *whole_trial("t0", 10, 0.9, seconds=1.0), TrialStarted(trial_id="t1"), epoch("t1", 8))
    # Eleven epochs took 22 s by the clock; two are to go.
    assert board.remaining_seconds(NOON + timedelta(seconds=22)) == pytest.approx(4.0)


def test_expected_end_leaves_out_what_was_done_before_and_takes_in_what_starts_again() -> None:
    trials = [make_trial(f"t{seed}", seed=seed, epochs=10) for seed in range(3)]
    board = board_of(trials, *whole_trial("t1", 10, 0.9, seconds=1.0), earlier=(ended("t0", 0.9), ended("t2", None)))
    assert board.remaining_seconds(NOON + timedelta(seconds=10)) == 0.0
    board.feed(TrialStarted(trial_id="t2"))
    assert board.remaining_seconds(NOON + timedelta(seconds=10)) == pytest.approx(10.0)
    board.feed(TrialStarted(trial_id="t2"))
    assert board.remaining_seconds(NOON + timedelta(seconds=10)) == pytest.approx(10.0)


def test_nothing_is_to_go_once_every_trial_ended() -> None:
    board = board_of([make_trial("t0")], *whole_trial("t0", 5, 0.9))
    assert board.remaining_seconds(NOON + timedelta(seconds=5)) == 0.0
    assert "to go" not in summary(board, NOON + timedelta(seconds=5)).plain


def test_nothing_is_to_go_once_nothing_starts_any_more() -> None:
    trials = [make_trial("t0", epochs=10), make_trial("t1", seed=1, epochs=10)]
    board = board_of(trials, *whole_trial("t0", 10, 0.9), Notice(text="a remark", lasting=True))
    later = NOON + timedelta(seconds=30)
    assert "to go" in summary(board, later).plain
    board.feed(Notice(text="The budget ends the run", lasting=True, ends_run=True))
    assert "to go" not in summary(board, later).plain


def test_the_last_line_says_nothing_of_time_to_go() -> None:
    clock = iter([NOON, NOON + timedelta(seconds=30)])
    console = plain_console()
    with Progress([make_trial("t0"), make_trial("t1", seed=1)], console, now=lambda: next(clock)) as progress:
        for event in whole_trial("t0", 9, 0.9):
            progress(event)
    assert text_of(console).splitlines()[-1] == "1/2 done · 0 stopped · 0 failed · 30 s elapsed"


def test_trials_that_earlier_sessions_began_count_as_unfinished_until_they_go_on() -> None:
    trials = [make_trial(f"t{seed}", seed=seed) for seed in range(4)]
    board = Board(trials, earlier=[ended("t0")], begun=["t0", "t1", "t2", "unknown"], now=NOON)
    assert summary(board, NOON).plain.startswith("1/4 done · 0 stopped · 0 failed · 2 unfinished · ")
    board.feed(TrialStarted(trial_id="t1"))
    assert " 1 unfinished " in summary(board, NOON).plain
    board.feed(epoch("t1", 4))
    board.feed(ended("t1", status=Status.UNFINISHED))
    assert summary(board, NOON).plain.startswith("1/4 done · 0 stopped · 0 failed · 2 unfinished · ")


def test_trial_that_starts_again_is_no_longer_done() -> None:
    board = board_of([make_trial("t0")], ended("t0", None, status=Status.FAILED), TrialStarted(trial_id="t0"))
    assert summary(board, NOON).plain.startswith("0/1 done · 0 stopped · 0 failed")
    assert list(board.running) == ["t0"]


def test_events_about_unknown_trials_change_nothing() -> None:
    console = plain_console()
    with Progress([make_trial("t0")], console, now=lambda: NOON) as progress:
        for event in whole_trial("unknown", 1, 0.9):
            progress(event)
    assert text_of(console) == "0/1 done · 0 stopped · 0 failed · 0.0 s elapsed\n"


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0.0, "0.0 s", "1 s"),
        (3.14, "3.1 s", "3 s"),
        (42.4, "42 s", "42 s"),
        (425.0, "7 min 05 s", "7 min"),
        (7620.0, "2 h 07 min", "2 h 07 min"),
        (273600.0, "3 d 04 h", "3 d 04 h"),
    ],
)
def test_durations_read_naturally(seconds: float, exact: str, rough: str) -> None:
    assert duration_text(seconds) == exact
    assert rough_duration_text(seconds) == rough


def make_try(trial_id: str, rate: float) -> Trial:
    return builders.make_trial(trial_id, replace(PHASE, learning_rate=rate), seed=TUNING_SEED)


def test_a_try_is_told_by_its_learning_rate_in_place_of_the_seed() -> None:
    console = plain_console()
    with Progress([make_try("t0", 0.003)], console, stage="Learning rates") as progress:
        for event in whole_trial("t0", 3, 0.95):
            progress(event)
    assert "digits 100 · learning rate 0.003: val accuracy 0.950" in text_of(console).splitlines()[0]


def test_the_display_of_a_search_has_its_title_and_nobody_who_leads() -> None:
    tries = [make_try("t0", 0.003), make_try("t1", 0.01)]
    board = board_of(tries, *whole_trial("t0", 3, 0.95), TrialStarted(trial_id="t1"), epoch("t1", 1))
    console = Console(file=io.StringIO(), width=120)
    console.print(render(board, NOON, rows=10, stage="Learning rates"))
    text = text_of(console)
    assert text.startswith("Learning rates")
    assert "0.01" in text
    assert str(TUNING_SEED) not in text
    assert "Leading" not in text
    assert "1/2 done" in text
