"""One disturbed run after another: what was killed, when, and whether what came of it is what it should be.

In: a folder, how many rounds, and a seed. Out: a `Round` each, whose `faults` are empty where all is well.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from raybench.ledger import Kind
from raybench.ledger import load as load_ledger
from raybench.results import load_history, load_predictions, load_results
from tests.chaos.material import ASHA, TRIALS, write_material

COMMAND = str(Path(sys.executable).with_name("raybench"))
CORES = "2"
KINDS = ("driver", "worker", "raylet")
WAIT_SECONDS = 400
MOST_DELAY_SECONDS = 5.0
"""After the first trial has finished and another one runs; less where hardly a trial would be left to disturb."""
LEFT_TO_DISTURB = 3
EXACT = ["status", "val_loss", "val_accuracy", "test_loss", "test_accuracy", "best_epoch", "epochs_run", "train_loss"]
EPOCH = ["trial_id", "phase", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"]
ENDS = {Kind.COMPLETED, Kind.STOPPED}
TRACEBACK = "Traceback"


@dataclass(kw_only=True, slots=True)
class Round:
    """What was done in one round, and what came of it."""

    number: int
    kind: str
    asha: bool
    finished: int = 0
    """Trials that had finished when something was killed."""
    running: int = 0
    commands: int = 1
    seconds: float = 0.0
    """Of all commands together."""
    batches: int = 0
    """That networks learned, those learned twice included."""
    faults: list[str] = field(default_factory=list)


class Chaos:
    """Disturbs runs in a folder, and holds them against one that nobody disturbed.

    Args:
        folder: for everything.
        seed: of the moments.
        at_once: rounds that will be run at once; as many undisturbed runs are, for their time to be comparable.

    """

    def __init__(self, folder: Path, seed: int, at_once: int) -> None:
        self.folder = folder
        self._seed = seed
        write_material(folder)
        started = time.monotonic()
        names = ["undisturbed", *(f"beside-{number}" for number in range(1, at_once))]
        for process in [self._command("run", "chaos.yaml", run_dir=name) for name in names]:
            _, err = process.communicate(timeout=WAIT_SECONDS)
            if process.returncode:
                raise RuntimeError(f"an undisturbed run ended with {process.returncode}: {err}")
        self.undisturbed_seconds = time.monotonic() - started
        self.undisturbed_batches = self._log("undisturbed").stat().st_size
        self._rows = self._table("undisturbed")
        self._history = load_history(folder / "undisturbed")[EPOCH].set_index("trial_id")
        self._predictions = _predictions(folder / "undisturbed")

    def round(self, number: int) -> Round:
        """Run, kill, and go on until the run has ended; return what came of it."""
        here = Round(number=number, kind=KINDS[number % len(KINDS)], asha=number % 2 == 1)
        name = f"round-{number}"
        started = time.monotonic()
        process = self._command("run", "chaos.yaml", run_dir=name, asha=here.asha)
        before = self._wait_and_kill(here, process, name)
        out, err = process.communicate(timeout=WAIT_SECONDS)
        self._check_words(here, out + err)
        while process.returncode != 0 and here.commands <= TRIALS:
            here.commands += 1
            process = self._command("run", "chaos.yaml", run_dir=name, asha=here.asha)
            out, err = process.communicate(timeout=WAIT_SECONDS)
            self._check_words(here, out + err)
            if process.returncode:
                here.faults.append(f"going on ended with {process.returncode}: {err.strip()[-300:]}")
                break
        here.seconds = time.monotonic() - started
        here.batches = self._log(name).stat().st_size
        self._compare(here, name, before)
        return here

    def _wait_and_kill(self, here: Round, process: subprocess.Popen[str], name: str) -> dict[str, bytes]:
        """Kill something once a trial has finished and another runs; return what was on disk then."""
        chance = random.Random(f"{self._seed} {here.number}")  # noqa: S311 - for moments, not for secrets
        run_dir = self.folder / name
        self._wait(process, lambda: len(_rows(run_dir)) >= 1 and bool(_workers(process)))
        moment = time.monotonic() + chance.uniform(0, MOST_DELAY_SECONDS)
        self._wait(process, lambda: time.monotonic() >= moment or len(_rows(run_dir)) >= TRIALS - LEFT_TO_DISTURB)
        victims = _victims(here.kind, process, chance)
        here.running = len(_workers(process))
        for victim in victims:
            victim.kill()
        if here.kind == "driver":
            os.killpg(process.pid, signal.SIGKILL)
        # Looked at afterwards: a row or decision that is there was there before the next command.
        kept = _files(run_dir)
        here.finished = sum(path.startswith("results/") for path in kept)
        return kept

    def _compare(self, here: Round, name: str, before: dict[str, bytes]) -> None:
        after = _files(self.folder / name)
        for path, content in before.items():
            if path == "decisions.jsonl":
                whole = content[: content.rfind(b"\n") + 1]
                if not after.get(path, b"").startswith(whole):
                    here.faults.append("recorded decisions changed")
            elif path.startswith("results/") and after.get(path) != content:
                here.faults.append(f"{path} of a finished trial was lost or written again")
        ledger = load_ledger(self.folder / name)
        ends = ledger[ledger["kind"].isin(ENDS)]["trial_id"].value_counts()
        here.faults += [f"{trial_id} ended {count} times" for trial_id, count in ends.items() if count > 1]
        rows = self._table(name)
        if len(rows) != TRIALS or not set(rows["status"]) <= {"completed", "stopped"}:
            here.faults.append(f"{len(rows)} of {TRIALS} trials ended: {rows['status'].value_counts().to_dict()}")
        if here.asha:
            self._compare_prefixes(here, name)
        elif not rows[EXACT].equals(self._rows[EXACT]):
            differing = int((rows[EXACT].ne(self._rows[EXACT]) & rows[EXACT].notna()).any(axis=1).sum())
            here.faults.append(f"final metrics of {differing} trials differ from the undisturbed run's")
        elif not _predictions(self.folder / name).equals(self._predictions):
            here.faults.append("predictions differ from the undisturbed run's")
        left = [path for path in after if path.endswith(".pt") or "/." in f"/{path}"]
        if left:
            here.faults.append(f"left behind: {left[:3]}")

    def _compare_prefixes(self, here: Round, name: str) -> None:
        history = load_history(self.folder / name)[EPOCH].set_index("trial_id")
        for trial_id, own in history.groupby(level=0):
            whole = self._history.loc[[trial_id]]
            if not own.equals(whole.head(len(own))):
                here.faults.append(f"the history of {trial_id} is no prefix of its undisturbed one")

    def _check_words(self, here: Round, text: str) -> None:
        if TRACEBACK in text:
            here.faults.append(f"a traceback was shown: {text[text.index(TRACEBACK) :][:300]}")

    def _table(self, name: str) -> pd.DataFrame:
        return load_results(self.folder / name).set_index("trial_id").sort_index()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _command(self, command: str, *arguments: str, run_dir: str, asha: bool = False) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "RAYBENCH_CACHE_DIR": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "CHAOS_LOG": str(self._log(run_dir)),
        }
        overrides = ["--set", ASHA] if asha else []
        return subprocess.Popen(
            [COMMAND, command, *arguments, "--run-dir", run_dir, "--num-cpus", CORES, "--quiet", *overrides],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def _wait(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nothing to kill: {process.poll()}, {process.communicate()}")
            time.sleep(0.05)


def _victims(kind: str, process: subprocess.Popen[str], chance: random.Random) -> list[psutil.Process]:
    if kind == "worker":
        workers = _workers(process)
        return [chance.choice(workers)] if workers else []
    if kind == "raylet":
        return [each for each in _family(process) if each.name() == "raylet"]
    return []


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes in which trials run."""
    found = []
    for each in _family(process):
        try:
            if any("ImplicitFunc" in part for part in each.cmdline()):
                found.append(each)
        except psutil.Error:
            continue
    return found


def _rows(run_dir: Path) -> list[Path]:
    return [path for path in (run_dir / "results").glob("*.parquet") if not path.name.startswith(".")]


def _files(run_dir: Path) -> dict[str, bytes]:
    """Return what lasts: rows and decisions, and the names of what should not be left."""
    found = {}
    for path in run_dir.rglob("*"):
        name = str(path.relative_to(run_dir))
        if path.is_file():
            try:
                keeps = path.suffix in {".parquet", ".jsonl"} and not path.name.startswith(".")
                found[name] = path.read_bytes() if keeps else b""
            except OSError:
                continue
    return {name: content for name, content in found.items() if name != "ledger.jsonl"}


def _predictions(run_dir: Path) -> pd.DataFrame:
    table = load_predictions(run_dir)
    table["probabilities"] = [tuple(each) for each in table["probabilities"]]
    return table.sort_values(["trial_id", "image"], ignore_index=True)
