"""The decision log on disk."""

from pathlib import Path

import pytest

from raybench.errors import RunError
from raybench.scheduling.asha import Decision
from raybench.scheduling.decisions import DecisionLog, stop_epochs

GO_ON = Decision(trial_id="a", group="g/833/0", epoch=10, rung=10, value=0.5, stop=False)
STOP = Decision(trial_id="b", group="g/833/0", epoch=10, rung=10, value=0.7, stop=True)
DIVERGED = Decision(trial_id="c", group="g/833/1", epoch=3, rung=None, value=None, stop=True)


def test_decisions_come_back_in_order_from_another_process_life(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    for decision in (GO_ON, STOP, DIVERGED):
        DecisionLog(path).append(decision)
    assert DecisionLog(path).read() == [GO_ON, STOP, DIVERGED]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_no_log_means_no_decisions(tmp_path: Path) -> None:
    assert DecisionLog(tmp_path / "decisions.jsonl").read() == []


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_last_line_that_was_cut_off_never_happened(tmp_path: Path, cut: int) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log.append(GO_ON)
    log.append(STOP)
    log.path.write_bytes(log.path.read_bytes()[:-cut])
    again = DecisionLog(log.path)
    assert again.read() == [GO_ON]
    again.append(DIVERGED)
    again.append(STOP)
    assert DecisionLog(log.path).read() == [GO_ON, DIVERGED, STOP]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log.append(GO_ON)
    with log.path.open("a", encoding="utf-8") as file:
        file.write('{"trial_id": 3}\n')
    with pytest.raises(
        RunError,
        match=r"decisions\.jsonl, line 2: not a decision: .*delete this line or the whole file: .* judged again",
    ):
        log.read()


def test_the_first_stop_of_a_trial_counts() -> None:
    later = Decision(trial_id="b", group="g/833/0", epoch=30, rung=30, value=0.7, stop=True)
    assert stop_epochs([GO_ON, STOP, later, DIVERGED]) == {"b": 10, "c": 3}
