"""What the images of a dataset cost in memory when four trials train on it at once, against one trial.

Real trials (`training.execute.run`, what workers call), each in a process of its own, all held after their second
epoch: one alone, then four side by side. What counts is proportional memory (PSS in /proc/PID/smaps: a page that four
processes share counts a quarter in each): that of the mapped image cache, plus how much the rest of a process outgrows
the same trial on a dataset with the same batches but hardly more images than one of them, so that private copies would
be seen.

    python -m benchmarks.memory
"""

import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path

from torch import nn

from benchmarks.figures import Figure, publish
from benchmarks.images import photo_folder
from raybench.experiment import parse_experiment
from raybench.records import Allocation, EpochRecord, Trial, Verdict
from raybench.training import preflight
from raybench.training.execute import run
from raybench.training.process import release_memory
from raybench.trials import expand

AT_ONCE = 4
SIDE = 224
"""Of the images, in pixels."""
HELD_AFTER = 2
"""Epochs."""
MANY = {"train": 1216, "val": 192, "test": 192}
FEW = {"train": 64, "val": 64, "test": 64}
"""Batches of the same sizes as those of `MANY`, but few."""
STRATEGIES = {"fine-tune": "no augmentation", "fine-tune+augment": "default augmentation"}
SHARED = ("/dev/shm/", "/memfd:")  # noqa: S108 - looked for, not used
"""Mappings that lie in memory, not in a file."""
_MEGABYTE = 10**6
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one process is to do."""

    warm_up: Trial
    """Trained first: what a process allocates once is no image data."""
    held: tuple[Trial, ...]
    """Trained then, one after another; each is held after an epoch until it is told to go on."""
    run_dir: Path
    cache: Path


def main() -> None:
    """Measure each strategy: images alone, and images that are cropped from larger ones."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="raybench-memory-") as name:
        folder = Path(name)
        os.environ["RAYBENCH_CACHE_DIR"] = str(folder / "cache")
        for strategy, policy in STRATEGIES.items():
            small, large = (
                prepared(photo_folder(train=count["train"], val=count["val"], test=count["test"]), strategy)
                for count in (FEW, MANY)
            )
            jobs = [
                Job(
                    warm_up=small[index - 1],
                    held=(small[index], large[index]),
                    run_dir=folder / strategy / str(index),
                    cache=folder / "cache",
                )
                for index in range(AT_ONCE)
            ]
            one, four = image_bytes(jobs)
            figures.append(
                Figure(
                    name=f"image data of {AT_ONCE} trials at once, {SIDE} px, {policy}",
                    unit="MB",
                    ours=[four / _MEGABYTE],
                    peer=[one / _MEGABYTE],
                    peer_name="one trial",
                    more_is_better=False,
                    at_most=1.2,
                )
            )
    publish("memory", figures)


def prepared(images: Path, strategy: str) -> list[Trial]:
    """Return a trial for each of four seeds, whose images are decoded."""
    experiment = parse_experiment(
        {
            "name": "memory",
            "datasets": [{"name": images.name, "source": f"imagefolder:{images}", "image_size": SIDE}],
            "models": ["benchmarks.memory:small_network"],
            "strategies": [strategy],
            "seeds": list(range(AT_ONCE)),
            "training": {"epochs": HELD_AFTER + 1, "patience": HELD_AFTER + 1},
        },
        "memory",
    )
    return expand(experiment, preflight.check(experiment, "memory"))


def small_network(num_classes: int) -> nn.Module:
    """Return a network that takes little time and memory: what is measured are images."""
    return nn.Sequential(
        nn.AvgPool2d(14), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, num_classes)
    )


def image_bytes(jobs: Sequence[Job]) -> tuple[int, int]:
    """Return the memory for images of the first trial alone, and of all at once, each in a process of its own.

    A job holds two trials: one on few images, which says what a trial takes besides them, then one on many.
    """
    spawn = multiprocessing.get_context("spawn")  # nothing inherited: as trials start on a machine
    processes = [_Held(job, spawn) for job in jobs]
    for process in processes:
        process.wait()
    before = [process.memory() for process in processes]
    processes[0].go_on()
    processes[0].wait()
    one = processes[0].memory() - before[0]
    for process in processes[1:]:
        process.go_on()
    for process in processes[1:]:
        process.wait()
    four = sum(process.memory() - base for process, base in zip(processes, before, strict=True))
    for process in processes:
        process.go_on()
    for process in processes:
        process.join()
    return one, four


class _Held:
    """A process that does a job."""

    def __init__(self, job: Job, context: SpawnContext) -> None:
        self._cache = job.cache
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_train, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()  # else its end would go unnoticed

    def wait(self) -> None:
        """Wait until it holds a trial. Raises EOFError where it ended instead."""
        self._connection.recv()

    def go_on(self) -> None:
        self._connection.send("go on")

    def memory(self) -> int:
        """Return what it takes for images and in no file, in bytes."""
        return proportional_bytes(self._process.pid or 0, self._cache)

    def join(self) -> None:
        self._process.join()
        if self._process.exitcode:
            raise RuntimeError(f"a trial's process ended with {self._process.exitcode}")


def proportional_bytes(pid: int, cache: Path) -> int:
    """Return the proportional memory of a process now, but for files outside the cache, such as libraries (Linux)."""
    kilobytes = 0
    mapped = ""
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        header = _MAPPING.fullmatch(line)
        if header is not None:
            mapped = header[1]
        elif line.startswith("Pss:") and (
            not mapped.startswith("/") or mapped.startswith((*SHARED, f"{cache}{os.sep}"))
        ):
            kilobytes += int(line.split()[1])
    return kilobytes * 1024


def _train(connection: Connection, job: Job) -> None:
    """Run the trials in this process; say when one is held, and wait until it may go on."""
    os.environ["RAYBENCH_CACHE_DIR"] = str(job.cache)

    def hold(record: EpochRecord) -> Verdict:
        if record.epoch == HELD_AFTER:
            release_memory()  # what is free already is nobody's
            connection.send(record.epoch)
            connection.recv()
        return Verdict.GO_ON

    allocation = Allocation(cpu_share=1 / AT_ONCE, gpu_fraction=0, threads=1)
    run(job.warm_up, run_dir=job.run_dir, allocation=allocation, on_epoch=lambda _: Verdict.GO_ON)
    for trial in job.held:
        run(trial, run_dir=job.run_dir, allocation=allocation, on_epoch=hold)


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        sys.exit("proportional memory is measured on Linux alone")
    main()
