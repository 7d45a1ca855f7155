"""Ctrl-C and SIGTERM in the middle of a run, and the next run on the same directory."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
import pytest

from raybench.events import Event
from raybench.records import Status
from raybench.results import finished_trial_ids, load_results
from raybench.scheduling.interruption import GRACE_SECONDS, Interruption
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
            assert interruption.stop_all(), "there is nobody yet who could pause"
            assert heard == []
            signal.raise_signal(number)
            assert heard == [number]
        signal.raise_signal(number)
        assert heard == [number, number]
    finally:
        signal.signal(number, before)


def test_a_signal_that_ray_does_not_let_through_ends_the_run_once_ray_has_started() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interruption = Interruption()
    try:
        with pytest.raises(KeyboardInterrupt), interruption.starting():  # noqa: PT012 - the first is lost on the way
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            reached = True
        assert reached
        assert interruption.requested
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_that_ray_does_not_let_through_ends_the_run_at_its_next_look() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interruption = Interruption(clock=lambda: 0.0)
    interruption.pause = lambda: None
    try:
        with interruption.listening():
            signal.raise_signal(signal.SIGINT)
            assert not interruption.stop_all(), "trials finish their epochs"
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interruption.stop_all()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_trials_may_finish_their_epochs_after_sigterm_for_so_long(number: signal.Signals, ends: bool) -> None:
    now, paused, told = [0.0], [0.0], list[Event]()
    interruption = Interruption(told.append, clock=lambda: now[0])
    interruption.pause = lambda: paused.append(now[0])
    interruption.at_once = True
    with interruption.listening():
        signal.raise_signal(number)
        assert not interruption.stop_all()
        now[0] = GRACE_SECONDS - 0.1
        assert not interruption.stop_all()
        assert len(paused) == 3, "told twice: who was to hear it may have been started anew"
        assert len(told) == 1
        now[0] = GRACE_SECONDS
        with pytest.raises(KeyboardInterrupt) if ends else nullcontext():
            assert not interruption.stop_all()


def start_driver(run_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.scheduling.drive", str(run_dir), *TRIALS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
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


def write_waiting_scripts(run_dir: Path) -> None:
    names = {name: Script(losses=(1.0, 0.5, 0.4), wait_for_file=None if name == "quick" else "go") for name in TRIALS}
    write_scripts(run_dir, names)


def wait_until_held(run_dir: Path) -> None:
    """Wait until two trials are within their second epoch."""
    deadline = time.monotonic() + 60
    while not all((run_dir / f"{name}.waits").exists() for name in ("held", "held-too")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_trials_finish_their_epoch_and_the_next_run_ends_every_trial_once(
    number: signal.Signals, tmp_path: Path
) -> None:
    write_waiting_scripts(tmp_path)
    driver = start_driver(tmp_path)
    read_until(driver, {"TrialEnded(trial_id='quick'"})
    wait_until_held(tmp_path)
    family = psutil.Process(driver.pid).children(recursive=True)
    os.killpg(driver.pid, number)  # as a terminal, `timeout` and launchers of jobs do
    read_until(driver, {"Trials finish their epochs"})
    (tmp_path / "go").touch()
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, output
    assert "interrupted=True" in output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    rows = load_results(tmp_path).set_index("trial_id")
    assert dict(rows["status"]) == {"quick": "completed", "held": "unfinished", "held-too": "unfinished"}
    assert rows.loc[["held", "held-too"], "epochs_run"].tolist() == [2, 2]

    again = start_driver(tmp_path)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert finished_trial_ids(tmp_path) == dict.fromkeys(TRIALS, Status.COMPLETED)
    ended = Counter(entry["trial_id"] for entry in starts(tmp_path) if entry.get("status") == Status.COMPLETED)
    assert ended == dict.fromkeys(TRIALS, 1)


def test_a_second_ctrl_c_ends_the_run_now(tmp_path: Path) -> None:
    write_waiting_scripts(tmp_path)
    driver = start_driver(tmp_path)
    read_until(driver, {"TrialEnded(trial_id='quick'"})
    wait_until_held(tmp_path)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGINT)
    read_until(driver, {"Trials finish their epochs"})
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert finished_trial_ids(tmp_path) == {"quick": Status.COMPLETED}
