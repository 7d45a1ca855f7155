"""Ctrl-C in the middle of a run, and the next run on the same directory."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from raybench.results import finished_trial_ids
from raybench.scheduling.driver import Interruption
from tests.scheduling.fakes import Script, starts, write_scripts

pytestmark = pytest.mark.minutes

TRIALS = ("quick", "held", "held-too", "waiting")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_and_the_second_acts_as_ever(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda received, _: heard.append(received))
    try:
        interruption = Interruption()
        with interruption.listening():
            assert not interruption.stop_all()
            signal.raise_signal(number)
            assert interruption.stop_all()
            assert heard == []
            signal.raise_signal(number)
            assert heard == [number]
        signal.raise_signal(number)
        assert heard == [number, number]
    finally:
        signal.signal(number, before)


def start_driver(run_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.scheduling.drive", str(run_dir), *TRIALS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def read_until(driver: subprocess.Popen[str], wanted: set[str]) -> None:
    """Read the driver's output until each of the texts was in one of its lines."""
    assert driver.stdout is not None
    missing = set(wanted)
    lines = []
    while missing:
        line = driver.stdout.readline()
        lines.append(line)
        assert line, f"the driver ended early: {lines}"
        missing -= {text for text in missing if text in line}


def test_interrupted_run_keeps_what_ended_and_the_next_run_ends_every_trial_once(tmp_path: Path) -> None:
    scripts = {name: Script(losses=(1.0, 0.5), wait_for_file=None if name == "quick" else "go") for name in TRIALS}
    write_scripts(tmp_path, scripts)
    driver = start_driver(tmp_path)
    read_until(
        driver,
        {
            "TrialEnded(trial_id='quick'",
            "EpochDone(record=EpochRecord(trial_id='held', phase=1, epoch=1,",
            "EpochDone(record=EpochRecord(trial_id='held-too', phase=1, epoch=1,",
        },
    )
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, output
    assert "interrupted=True" in output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert set(finished_trial_ids(tmp_path)) == {"quick"}

    (tmp_path / "go").touch()
    again = start_driver(tmp_path)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert set(finished_trial_ids(tmp_path)) == set(TRIALS)
    ended = Counter(entry["trial_id"] for entry in starts(tmp_path) if "end" in entry)
    assert ended == dict.fromkeys(TRIALS, 1)
