"""Keeps the books while a run goes on: who begins and ends something on a machine in, entries of the ledger out.

A session begins with the process, before there is a run directory, so entries wait until `open` says where they go.
Clocks are handed in; nothing here reads the time by itself.
"""

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from raybench.cost import SECONDS_PER_HOUR
from raybench.ledger import Entry, Kind, append

PUBLISH_SECONDS: Final = 5
"""How often at most the ledger is sent to an object store while trials end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A machine that trials may run on."""

    node: str
    """Host name."""
    instance_type: str | None
    usd_per_hour: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What the process of a trial measured of its own attempt."""

    seconds: float
    build_seconds: float = 0.0
    """Of these, for caches and features that others find done."""


@dataclass(kw_only=True, slots=True)
class _Machine:
    """A machine of this session, and what is held of it."""

    machine: Machine
    since: float
    left: float | None = None
    """When it went away; None while it is there."""
    held: dict[str, float] = field(default_factory=dict)
    """Part of the machine by trial, or by place whose process is not there yet."""
    begun: dict[str, float] = field(default_factory=dict)
    """When that began."""
    is_late: bool = False
    """Whether it came while trials were being run."""
    counted_until: float | None = None
    """Until when idle time is counted; None: no trials are being run."""
    idle_seconds: float = 0.0
    """Not written yet, x share."""


class Books:
    """The entries of one session.

    Args:
        started: when the session began, on the clock.
        clock: seconds; only differences count.
        session: what tells it from others; None: the time and the process.

    """

    def __init__(
        self, *, started: float | None = None, clock: Callable[[], float] = time.time, session: str | None = None
    ) -> None:
        self._clock = clock
        self._started = clock() if started is None else started
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._session = session or f"{now} {platform.node()} {os.getpid()}"
        self._machines: dict[str, _Machine] = {}
        self._waiting: list[Entry] = []
        self._run_dir: Path | None = None
        self._trials_ended: float | None = None
        self._is_running = False
        """Whether trials are being run."""
        self._doing: tuple[Kind, float] | None = None
        """What has all machines to itself, and since when."""
        self._published_at = -math.inf
        """When the ledger was last sent to an object store, if it is in one."""
        self.trial_kind: Kind | None = None
        """What attempts count as, however they end; None: by how they end."""

    def add_machine(self, machine: Machine, *, from_start: bool = False, places: int = 0, share: float = 0.0) -> None:
        """Count a machine from now on, or from when the session began; one that is there already stays.

        `places` and `share` are as for `trials`, where these are being run already.
        """
        if machine.node in self._machines:
            return
        since = self._started if from_start else self._clock()
        each = self._machines[machine.node] = _Machine(machine=machine, since=since, is_late=self._is_running)
        if self._is_running:
            self._open_places(each, places, share)

    def remove_machine(self, node: str) -> None:
        """Count a machine that went away no longer; what trials hold of it is counted until their loss is told."""
        each = self._machines.get(node)
        if each is None or each.left is not None:
            return
        for name in [name for name in each.held if name.startswith("place ")]:
            self._end(node, name, Kind.WORKERS)
        self._count_idle(each)
        each.left = self._clock()

    def restore_machine(self, node: str) -> None:
        """Count a machine that was thought to be gone as if it had been there all the time."""
        self._machines[node].left = None

    def has_gone(self, node: str) -> bool:
        """Return whether a machine of that name was there, and is not any more."""
        return node in self._machines and self._machines[node].left is not None

    def started(self) -> None:
        """Count the time since the session began as spent on starting."""
        self._book(Kind.STARTING, self._started)

    @contextmanager
    def during(self, kind: Kind) -> Iterator[None]:
        """Count a `with` block as something that has all machines to itself, whether it ends well or not."""
        begun = self._clock()
        self._doing = kind, begun
        try:
            yield
        finally:
            self._doing = None
            self._book(kind, begun)

    @contextmanager
    def trials(self, places: Mapping[str, int], share: Mapping[str, float]) -> Iterator[None]:
        """Count idle parts of machines during a `with` block.

        `places` says how many trials fit on each machine, by host name, and `share` what each holds of it; until a
        place has had its first trial, its process is being started.
        """
        self._is_running = True
        for node, each in self._machines.items():
            self._open_places(each, places.get(node, 0), share.get(node, 0.0))
        try:
            yield
        finally:
            self._close_places(Kind.INTERRUPTED)
            self._is_running = False
            self._trials_ended = self._clock()
            self.write()

    def ended(self) -> None:
        """Count the time since the last trials as spent on ending."""
        if self._trials_ended is not None:
            self._book(Kind.ENDING, self._trials_ended)
            self._trials_ended = None
        self.write()

    def cut_off(self) -> None:
        """Write the last entries of a session that ends where it stands; what trials hold of machines is lost."""
        if self._doing is not None:
            self._book(*self._doing)
        self._close_places(Kind.LOST)
        self.write()

    def begin(self, trial_id: str, node: str, share: float, *, places: int = 1) -> None:
        """Note that a trial holds its share of a machine from now on, in so many of its places."""
        each = self._machines.get(node)
        if each is None:
            return
        self._count_idle(each)
        starting = [name for name in each.held if name.startswith("place ")]
        for name in starting[:places]:
            self._end(node, name, Kind.WORKERS)
        each.held[trial_id] = share
        each.begun[trial_id] = self._clock()

    def end(self, trial_id: str, kind: Kind, spent: Spent | None = None) -> None:
        """Note that a trial's attempt ended; without what its process measured, the driver's clock counts."""
        for node, each in self._machines.items():
            if trial_id in each.held:
                self._end(node, trial_id, self.trial_kind or kind, spent)
        self.write(publish=self._clock() - self._published_at >= PUBLISH_SECONDS)

    def usd(self) -> float:
        """Return what the machines cost since the session had them; NaN where a price is unknown."""
        return sum(_usd_per_second(each.machine) * (self._now(each) - each.since) for each in self._machines.values())

    def usd_per_second(self) -> float:
        """Return what the machines cost that the session has; NaN where a price is unknown."""
        return sum(_usd_per_second(each.machine) for each in self._machines.values() if each.left is None)

    def wall_seconds(self) -> float:
        """Return how long the session has lasted."""
        return self._clock() - self._started

    def open(self, run_dir: Path) -> None:
        """Write what waits into a run directory, and from now on everything."""
        self._run_dir = run_dir
        self.write()

    def write(self, *, publish: bool = True) -> None:
        """Write what is not written yet, and how long each machine has been there. A full disk ends no run.

        In an object store it is written under `publish` alone; what waits comes with what is written next.
        """
        if self._run_dir is None:
            return
        for each in self._machines.values():
            self._count_idle(each)
            if each.idle_seconds > 0:
                self._enter(each, Kind.IDLE, each.idle_seconds, 1.0)
                each.idle_seconds = 0.0
            self._enter(each, Kind.MACHINE, self._now(each) - each.since, 1.0)
        with contextlib.suppress(OSError):
            append(self._run_dir, self._waiting, publish=publish)
            self._waiting.clear()
            if publish:
                self._published_at = self._clock()

    def _open_places(self, each: _Machine, places: int, share: float) -> None:
        now = self._now(each)
        each.counted_until = now
        for place in range(places):
            each.held[f"place {place}"] = share
            each.begun[f"place {place}"] = now

    def _close_places(self, kind: Kind) -> None:
        """End what is held of machines, attempts as of a kind, and count no idle time from now on."""
        for node, each in self._machines.items():
            # A machine that came when all trials had begun somewhere has places that nobody was to take.
            empty = Kind.IDLE if each.is_late else Kind.WORKERS
            for name in list(each.held):
                self._end(node, name, empty if name.startswith("place ") else kind)
            self._count_idle(each)
            each.counted_until = None
            each.is_late = False

    def _book(self, kind: Kind, since: float) -> None:
        """Enter the time since then as held by something that has all machines to itself."""
        for each in self._machines.values():
            self._enter(each, kind, self._now(each) - max(since, each.since), 1.0)

    def _end(self, node: str, name: str, kind: Kind, spent: Spent | None = None) -> None:
        each = self._machines[node]
        self._count_idle(each)
        share, seconds = each.held.pop(name), self._now(each) - each.begun.pop(name)
        trial_id = None if name.startswith("place ") else name
        built = 0.0
        if spent is not None:
            seconds, built = spent.seconds, min(spent.build_seconds, spent.seconds)
        if built:
            self._enter(each, Kind.CACHES, built, share, trial_id)
        self._enter(each, kind, seconds - built, share, trial_id)

    def _count_idle(self, each: _Machine) -> None:
        if each.counted_until is None:
            return
        now = self._now(each)
        each.idle_seconds += (now - each.counted_until) * max(0.0, 1 - sum(each.held.values()))
        each.counted_until = now

    def _now(self, each: _Machine) -> float:
        """Return the time, or when the machine went away."""
        return self._clock() if each.left is None else each.left

    def _enter(self, each: _Machine, kind: Kind, seconds: float, share: float, trial_id: str | None = None) -> None:
        machine = each.machine
        self._waiting.append(
            Entry(
                session=self._session,
                kind=kind,
                node=machine.node,
                seconds=round(max(seconds, 0.0), 6),
                device_share=share,
                trial_id=trial_id,
                instance_type=machine.instance_type,
                usd_per_hour=machine.usd_per_hour,
            )
        )


def _usd_per_second(machine: Machine) -> float:
    return math.nan if machine.usd_per_hour is None else machine.usd_per_hour / SECONDS_PER_HOUR
