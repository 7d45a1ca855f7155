"""How a decision reaches the trial that it concerns, and how it outlives the run.

In: decisions about trials. Out: `decisions.jsonl` in the run directory, and answers to the trials that ask.

The order is what counts: a decision is on disk before anybody can learn of it, and every decision that a
trial learns of is read again by the next run on the same directory. So a trial that was told to stop and
died before it wrote its row is told the same, at the same epoch, when it is run again.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from pydantic import TypeAdapter, ValidationError
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench.errors import RunError
from raybench.mirror import publish_log
from raybench.records import Verdict
from raybench.scheduling.asha import Decision
from raybench.scheduling.cluster import lost_process

LOG_NAME = "decisions.jsonl"
NAMESPACE = "raybench"
MOST_ASKING = 1000
"""Trials that may ask at once; one more waits for an answer to another."""

_DECISION = TypeAdapter(Decision)


class DecisionLog:
    """Append-only file of decisions, one JSON object a line; one process writes it at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size: int | None = None

    def read(self) -> list[Decision]:
        """Return what was recorded, in order; a last line that was cut off while being written does not count.

        Raises:
            RunError: a line other than a cut-off last one is no decision, or the file cannot be read.

        """
        decisions = []
        for number, line in enumerate(self._whole_lines().splitlines(), start=1):
            try:
                decisions.append(_DECISION.validate_json(line))
            except ValidationError as error:
                raise RunError(
                    f"{self.path}, line {number}: not a decision: {line[:80].decode(errors='replace')!r}; "
                    "restore the file, or delete this line or the whole file: finished trials stay as they are, and "
                    "unfinished ones are judged again from here on"
                ) from error
        return decisions

    def append(self, decision: Decision) -> None:
        """Write a decision and return once it would survive a power cut.

        Raises:
            OSError: it could not be written; the file is as it was before.

        """
        line = json.dumps(asdict(decision)).encode() + b"\n"
        is_new = not self.path.exists()
        size = len(self._whole_lines()) if self._size is None else self._size
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.ftruncate(descriptor, size)  # a cut-off last line would swallow this one
            try:
                _write(descriptor, line, at=size)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            _sync_folder(self.path.parent)
        self._size = size + len(line)
        publish_log(self.path)

    def _whole_lines(self) -> bytes:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read: {error.strerror}") from error
        return data[: data.rfind(b"\n") + 1]


def _write(descriptor: int, line: bytes, *, at: int) -> None:
    """Write and wait for the disk.

    Raises:
        OSError: not all of it was written.

    """
    if os.pwrite(descriptor, line, at) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable; its content is the file's own business."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stop_epochs(decisions: Iterable[Decision]) -> dict[str, int]:
    """Return the epoch with which each stopped trial ends; of two decisions the first counts."""
    stops: dict[str, int] = {}
    for decision in decisions:
        if decision.stop:
            stops.setdefault(decision.trial_id, decision.epoch)
    return stops


class Desk:
    """Where trials ask; a Ray actor that needs no CPU.

    Answers are given in one event loop, so that a trial that asks never waits for another one.
    It begins with what the log holds, so that one that Ray had to start again knows every stop.
    """

    def __init__(self, log: Path | None) -> None:
        self._stops = {} if log is None else stop_epochs(DecisionLog(log).read())
        self._begun: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._all_leave = False
        self._outgrown: dict[str, int] = {}

    async def begin(self, trial_id: str) -> int | None:
        """Return how often the trial was begun before in this run; None where it is not to run now."""
        if self._leaves(trial_id):
            return None
        before = self._begun.get(trial_id, 0)
        self._begun[trial_id] = before + 1
        return before

    async def pause(self, trial_id: str | None = None) -> None:
        """Let a trial, or all of them, leave room with the epoch that they are in; none of them begins again."""
        if trial_id is None:
            self._all_leave = True
        else:
            self._leaving.add(trial_id)

    async def outgrow(self, trial_id: str, memory_bytes: int) -> None:
        """Note that the trial's process is about to end because it took so much memory, more than it may."""
        self._outgrown[trial_id] = memory_bytes

    async def outgrown(self, trial_id: str) -> int | None:
        """Return what the trial's last process took where it ended for that; once for each process."""
        return self._outgrown.pop(trial_id, None)

    async def tell(self, trial_id: str, epoch: int) -> None:
        """Let a trial end with an epoch; a stop that is known already stays as it is."""
        self._stops.setdefault(trial_id, epoch)

    async def ask(self, trial_id: str, epoch: int) -> str:
        """Return what the trial does, which has done this epoch: a `Verdict`."""
        if trial_id in self._stops and epoch >= self._stops[trial_id]:
            return Verdict.STOP
        return Verdict.PAUSE if self._leaves(trial_id) else Verdict.GO_ON

    def _leaves(self, trial_id: str) -> bool:
        return self._all_leave or trial_id in self._leaving


@contextmanager
def open_desk(log: Path | None) -> Iterator[str]:
    """Start the desk of one run on the driver's node and yield its name; it is gone afterwards.

    Without a log it stops nobody.

    The name is new each time, so that two runs on one cluster never meet.
    """
    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    name = f"desk-{uuid4().hex}"
    desk: Any = (
        ray.remote(Desk)
        .options(
            name=name,
            namespace=NAMESPACE,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=MOST_ASKING,
            scheduling_strategy=here,
        )
        .remote(log)
    )
    try:
        yield name
    finally:
        if lost_process() is None:  # else nobody is there any more who could end it
            ray.kill(desk)


def find_desk(name: str) -> ActorHandle[Any]:
    """Return the desk of a run.

    Raises:
        ValueError: there is none of that name.

    """
    return ray.get_actor(name, namespace=NAMESPACE)
