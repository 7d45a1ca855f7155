"""What a run really spent: entries of seconds on machines in, one line each in `ledger.jsonl`; out, where they went.

    node seconds x price  =  trials + searches + measuring + ... + idle  +  residual

Every entry is measured by whoever spends the time: a trial's by its own process, idle places by the driver. So the
residual is not what makes the sum right but what nobody measured: handing trials over, and gaps between the parts.

An entry is seconds x part of the machine held; entries of different sessions (runs of the command on one run directory)
are told apart. The line of a machine is written again and again with its time so far: the last one counts, so that a
driver that was killed leaves what it had spent by its last line.

Covered: machines that ran trials, from the moment the run had them. Not covered: a cluster's head, storage, traffic.
"""

import contextlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Final

import pandas as pd
from pydantic import TypeAdapter

from raybench.cost import SECONDS_PER_HOUR
from raybench.errors import RunError, StorageError
from raybench.mirror import publish_log
from raybench.regular import check_regular

LEDGER: Final = "ledger.jsonl"
"""File of a run directory."""


class Kind(StrEnum):
    """Where the time of a machine went."""

    STARTING = "starting"
    """Python, raybench and Ray, until trials can be handed out."""
    PREFLIGHT = "preflight"
    """Looking at data, models and weights; decoding images that no run on this machine decoded before."""
    MEASURING = "measuring"
    """How models are computed soonest, how many trials at once pay, what phases take alone."""
    WORKERS = "starting workers"
    """Places whose process was not there yet."""
    SEARCH = "learning-rate search"
    """Tries of learning rates, however they ended."""
    COMPLETED = "completed trials"
    STOPPED = "stopped trials"
    FAILED = "failed trials"
    LOST = "lost attempts"
    """Trials until their worker was lost; what a checkpoint saved of them was not spent twice."""
    INTERRUPTED = "interrupted attempts"
    """Trials that were paused, or ran when the run was ended: by Ctrl-C, a signal, or a budget that is spent."""
    CACHES = "cache and feature builds"
    """Within trials: what others find done."""
    IDLE = "idle"
    """Places without a trial while trials ran elsewhere, and parts of the machine that no place covers."""
    ENDING = "ending"
    """Until Ray is gone."""
    MACHINE = "machine"
    """The whole machine, for as long as the session had it: what the others have to add up to."""


UNLABELLED: Final = "machines without the label raybench/instance"
PARTS: Final = tuple(kind for kind in Kind if kind is not Kind.MACHINE)
ENDED: Final = (Kind.COMPLETED, Kind.STOPPED, Kind.FAILED)
"""What a trial has an entry of once it ended, however often it was begun."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Seconds of a part of a machine."""

    session: str
    """When it began, and the driver's process."""
    kind: Kind
    node: str
    """Host name."""
    seconds: float
    device_share: float
    """Part of the machine, 0 to 1."""
    trial_id: str | None = None
    instance_type: str | None = None
    usd_per_hour: float | None = None
    """Of the whole machine, when it was used; None where that is unknown."""


_ENTRY = TypeAdapter(Entry)

COLUMNS: Final = [
    *("session", "kind", "trial_id", "node", "instance_type", "seconds", "device_share", "usd_per_hour"),
    *("device_seconds", "cost_usd"),
]
"""Of `load`: `device_seconds` is seconds x share, `cost_usd` that times the price."""


def append(run_dir: Path, entries: Iterable[Entry], *, publish: bool = True) -> None:
    """Write entries behind those that are there, in an object store under `publish` alone. Raises OSError."""
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries)
    if lines:
        with (run_dir / LEDGER).open("a", encoding="utf-8") as file:
            file.write(lines)
        if publish:
            with contextlib.suppress(StorageError):  # what comes next brings these with it
                publish_log(run_dir / LEDGER)


def load(run_dir: str | Path) -> pd.DataFrame:
    """Return the entries of a run: the columns `COLUMNS`, one row an entry, of a machine the last one of each session.

    Empty where the run kept no ledger. Lines that a killed driver left half written are passed over. Raises RunError
    where it cannot be read.
    """
    path = Path(run_dir) / LEDGER
    try:
        check_regular(path)
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    rows = [row for line in lines if (row := _row(line)) is not None]
    names = [each.name for each in fields(Entry)]
    table = pd.DataFrame(rows, columns=names).astype(
        {"seconds": float, "device_share": float, "usd_per_hour": float}, errors="ignore"
    )
    again = (table["kind"] == Kind.MACHINE) & table.duplicated(["session", "node", "kind"], keep="last")
    table = table[~again].reset_index(drop=True)
    return with_prices(table.assign(device_seconds=table["seconds"] * table["device_share"]), {})[COLUMNS]


def with_prices(ledger: pd.DataFrame, usd_per_hour: Mapping[str, float]) -> pd.DataFrame:
    """Return the entries of `load` with costs, where a machine that had no price when it was used has that of now.

    `usd_per_hour` is by instance type.
    """
    now = ledger["instance_type"].map(lambda name: usd_per_hour.get(name, math.nan)).astype(float)
    prices = ledger["usd_per_hour"].astype(float).fillna(now)
    return ledger.assign(usd_per_hour=prices, cost_usd=ledger["device_seconds"] * prices / SECONDS_PER_HOUR)


def _row(line: bytes) -> dict[str, object] | None:
    try:
        return asdict(_ENTRY.validate_json(line))
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One kind of spending, over all sessions."""

    kind: Kind
    entries: int
    device_minutes: float
    share: float
    """Of all machine time; NaN where there is none."""
    cost_usd: float
    """NaN where a price is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Where the time and the money of a run went."""

    lines: tuple[Line, ...]
    """Of each kind that occurred, in the order of `Kind`."""
    machine: Line
    """All of it."""
    residual_share: float
    """Of the machine time, that no line covers; below 0 where lines overlap; NaN where there is none."""
    sessions: int
    wall_seconds: float
    """Of all sessions, each as long as the machine that it had longest."""
    trials: int
    """That ended, whether completed, stopped or failed."""
    tries: int
    """Of learning rates."""
    machine_seconds: Mapping[str, float]
    """How long all sessions together had each machine, by its name."""
    unpriced: tuple[str, ...]
    """Instance types without a price; of a machine without that label, the word for it."""


def summary(ledger: pd.DataFrame) -> Summary:
    """Add the entries of `load` up by kind."""
    lines = {kind: _line(kind, ledger) for kind in Kind}
    machine = lines[Kind.MACHINE]
    covered = sum(lines[kind].device_minutes for kind in PARTS)
    machines = ledger[ledger["kind"] == Kind.MACHINE]
    return Summary(
        lines=tuple(lines[kind] for kind in PARTS if lines[kind].entries),
        machine=machine,
        residual_share=1 - covered / machine.device_minutes if machine.device_minutes else math.nan,
        sessions=int(ledger["session"].nunique()),
        wall_seconds=float(machines.groupby("session")["seconds"].max().sum()),
        trials=_trials(ledger, ENDED),
        tries=_trials(ledger, (Kind.SEARCH,)),
        machine_seconds={str(name): float(each) for name, each in machines.groupby("node")["seconds"].sum().items()},
        unpriced=tuple(
            sorted(machines.loc[machines["usd_per_hour"].isna(), "instance_type"].fillna(UNLABELLED).unique())
        ),
    )


def _trials(ledger: pd.DataFrame, kinds: Collection[Kind]) -> int:
    """Return how many trials have an entry of one of these kinds."""
    return int(ledger.loc[ledger["kind"].isin(kinds), "trial_id"].nunique())


def _line(kind: Kind, ledger: pd.DataFrame) -> Line:
    own = ledger[ledger["kind"] == kind]
    whole = float(ledger.loc[ledger["kind"] == Kind.MACHINE, "device_seconds"].sum())
    seconds = float(own["device_seconds"].sum())
    return Line(
        kind=kind,
        entries=len(own),
        device_minutes=seconds / 60,
        share=seconds / whole if whole else math.nan,
        # min_count: a sum with one unknown part is unknown
        cost_usd=float(own["cost_usd"].sum(skipna=False)) if len(own) else math.nan,
    )
