"""Checkpoints: when they are saved, and what is read back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from raybench.training.checkpoint import ASSUMED_BYTES_PER_SECOND, COST_SHARE, Checkpointer

STATE = {"version": 1, "model": {"weight": torch.arange(1000.0)}, "optimizer": [torch.ones(3)], "history": ["text"]}
STATE_BYTES = 4 * 1003


class Clock:
    """Stands still unless it is told otherwise; makes a save take as long as it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.save_seconds = 0.0

    def __call__(self) -> float:
        return self.now

    def state(self) -> dict[str, Any]:
        """Return the state that is saved, while the clock goes on."""
        return {**STATE, "slow": _Slow(self)} if self.save_seconds else STATE


class _Slow(dict[str, int]):
    """Takes time once it is written."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def __reduce__(self) -> tuple[type, tuple[()]]:
        self._clock.now += self._clock.save_seconds
        return dict, ()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_was_saved_comes_back_until_it_is_removed(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "state.pt", least_seconds=0.0)
    assert checkpointer.load() is None

    assert checkpointer.save_if_due(lambda: {"version": 1}) is True
    assert checkpointer.load() == {"version": 1}

    checkpointer.remove()
    assert checkpointer.load() is None


def test_nothing_is_saved_before_the_least_interval(tmp_path: Path, clock: Clock) -> None:
    checkpointer = Checkpointer(tmp_path / "state.pt", 1.0, clock=clock)

    clock.now = 0.9
    assert not checkpointer.save_if_due(clock.state)
    clock.now = 1.0
    assert checkpointer.save_if_due(clock.state)


def test_the_first_save_waits_until_its_size_is_worth_it(tmp_path: Path, clock: Clock) -> None:
    checkpointer = Checkpointer(tmp_path / "state.pt", 1e-9, clock=clock)
    worth_it_at = STATE_BYTES / ASSUMED_BYTES_PER_SECOND / COST_SHARE

    clock.now = 0.99 * worth_it_at
    assert not checkpointer.save_if_due(clock.state)
    clock.now = 1.01 * worth_it_at
    assert checkpointer.save_if_due(clock.state)


def test_later_saves_take_at_most_their_share_of_the_time(tmp_path: Path, clock: Clock) -> None:
    checkpointer = Checkpointer(tmp_path / "state.pt", 1.0, clock=clock)
    clock.save_seconds = 3.0
    clock.now = 5.0
    assert checkpointer.save_if_due(clock.state)
    assert clock.now == 8.0

    clock.now = 8.0 + 3.0 / COST_SHARE - 0.1
    assert not checkpointer.save_if_due(clock.state)
    clock.now = 8.0 + 3.0 / COST_SHARE
    assert checkpointer.save_if_due(clock.state)


def test_without_a_least_interval_every_epoch_is_saved(tmp_path: Path, clock: Clock) -> None:
    checkpointer = Checkpointer(tmp_path / "state.pt", 0.0, clock=clock)
    clock.save_seconds = 3.0

    assert checkpointer.save_if_due(clock.state)
    assert checkpointer.save_if_due(clock.state)


def test_a_file_that_is_not_whole_counts_as_none(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "state.pt", least_seconds=0.0)
    checkpointer.save_if_due(lambda: STATE)
    content = checkpointer.path.read_bytes()

    for length in (0, 10, len(content) // 2, len(content) - 1):
        checkpointer.path.write_bytes(content[:length])
        assert checkpointer.load() is None
