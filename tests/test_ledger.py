import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from raybench.ledger import COLUMNS, LEDGER, Entry, Kind, append, load, summary, with_prices


def entry(
    kind: Kind, seconds: float, *, share: float = 1.0, price: float | None = 3600.0, session: str = "one"
) -> Entry:
    return Entry(session=session, kind=kind, node="here", seconds=seconds, device_share=share, usd_per_hour=price)


def test_cost_is_seconds_times_share_times_price_and_parts_add_up_to_the_machine(tmp_path: Path) -> None:
    append(tmp_path, [entry(Kind.MACHINE, 10), entry(Kind.COMPLETED, 12, share=0.5), entry(Kind.IDLE, 3.95)])
    total = summary(load(tmp_path))
    assert [(line.kind, round(line.cost_usd, 6), round(line.share, 6)) for line in total.lines] == [
        (Kind.COMPLETED, 6.0, 0.6),
        (Kind.IDLE, 3.95, 0.395),
    ]
    assert total.machine.cost_usd == pytest.approx(10.0)
    assert total.residual_share == pytest.approx(0.005)


def test_the_last_line_of_a_machine_counts_for_each_session(tmp_path: Path) -> None:
    append(tmp_path, [entry(Kind.MACHINE, 1), entry(Kind.MACHINE, 5), entry(Kind.MACHINE, 2, session="two")])
    total = summary(load(tmp_path))
    assert total.machine.device_minutes == pytest.approx(7 / 60)
    assert total.sessions == 2


def test_trials_tries_and_wall_time_are_counted_over_all_sessions_and_machines(tmp_path: Path) -> None:
    elsewhere = replace(entry(Kind.MACHINE, 3), node="there")
    tries = [replace(entry(Kind.SEARCH, 1), trial_id=name) for name in ("a", "b")]
    trials = [
        replace(entry(kind, 1, session=session), trial_id=name)
        for kind, name, session in (
            (Kind.INTERRUPTED, "c", "one"),
            (Kind.COMPLETED, "c", "two"),
            (Kind.FAILED, "d", "one"),
            (Kind.COMPLETED, "d", "two"),
            (Kind.STOPPED, "e", "two"),
            (Kind.LOST, "f", "two"),
        )
    ]
    whole = [entry(Kind.MACHINE, 10), elsewhere, entry(Kind.MACHINE, 7, session="two")]
    append(tmp_path, [*tries, *trials, *whole])
    total = summary(load(tmp_path))
    assert (total.trials, total.tries) == (3, 2)
    assert total.wall_seconds == pytest.approx(17), "machines are there at the same time, sessions are not"


def test_a_sum_with_an_unknown_price_is_unknown(tmp_path: Path) -> None:
    append(tmp_path, [entry(Kind.COMPLETED, 5), entry(Kind.COMPLETED, 5, price=None), entry(Kind.MACHINE, 10)])
    total = summary(load(tmp_path))
    assert math.isnan(total.lines[0].cost_usd)
    assert total.lines[0].device_minutes == pytest.approx(10 / 60)


def test_a_line_that_a_killed_driver_left_half_written_is_passed_over(tmp_path: Path) -> None:
    append(tmp_path, [entry(Kind.MACHINE, 5)])
    with (tmp_path / LEDGER).open("a") as file:
        file.write('{"session": "one", "kind": "idl')
    assert load(tmp_path)["seconds"].tolist() == [5.0]


def test_lines_of_kinds_that_a_newer_raybench_writes_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text(json.dumps({"kind": "moonlight", "seconds": 3}) + "\n[]\n")
    assert load(tmp_path).empty


def test_a_run_without_a_ledger_has_an_empty_one_with_nothing_to_say(tmp_path: Path) -> None:
    table = load(tmp_path)
    assert list(table) == COLUMNS
    total = summary(table)
    assert (total.lines, total.sessions) == ((), 0)
    assert math.isnan(total.residual_share)


def test_a_machine_without_a_price_when_it_was_used_has_that_of_now_and_one_with_a_price_keeps_it(
    tmp_path: Path,
) -> None:
    desk = replace(entry(Kind.MACHINE, 10, price=None), instance_type="desk", node="one")
    spot = replace(entry(Kind.MACHINE, 10, price=36.0), instance_type="spot", node="two")
    bare = replace(entry(Kind.MACHINE, 10, price=None), node="three")
    append(tmp_path, [desk, spot])
    assert summary(load(tmp_path)).unpriced == ("desk",)
    now = with_prices(load(tmp_path), {"desk": 360.0, "spot": 3600.0})
    assert now.set_index("node")["cost_usd"].to_dict() == pytest.approx({"one": 1.0, "two": 0.1})
    assert summary(now).unpriced == ()
    append(tmp_path, [bare])
    total = summary(with_prices(load(tmp_path), {"desk": 360.0}))
    assert total.unpriced == ("machines without the label raybench/instance",)
    assert total.machine_seconds == {"one": 10, "two": 10, "three": 10}
