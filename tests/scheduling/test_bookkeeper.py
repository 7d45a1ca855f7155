"""What a run spent, with real Ray: trials that complete, stop, fail and lose their worker."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raybench.ledger import Kind, load, summary
from raybench.records import AshaSettings, ResourceRequest
from raybench.scheduling.cluster import ray_session
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import run_trials
from raybench.spending import Books, Machine
from tests.scheduling.fakes import EXECUTE, Script, make_trial, starts, write_scripts

pytestmark = pytest.mark.minutes

HALVING = AshaSettings(grace_period=1, reduction_factor=2, group_by=("dataset", "train_size", "seed"))
EPOCH_SECONDS = 0.8


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    with ray_session(num_cpus=2, num_gpus=0):
        yield


def spend(run_dir: Path, scripts: dict[str, Script], *, cpu: float) -> float:
    """Run trials with books that price the machine at 3600 USD an hour; return the seconds that took."""
    trials = [make_trial(name, epochs=(len(script.losses),)) for name, script in scripts.items()]
    write_scripts(run_dir, scripts)
    books = Books()
    settings = Settings(
        asha=HALVING,
        resources=ResourceRequest(gpu=0, cpu=cpu),
        execute=EXECUTE,
        books=books,
        price_per_hour_usd={"local": 3600.0},
    )
    began = time.time()
    run_trials(
        trials, run_dir=run_dir, settings=settings, on_event=lambda _: None, on_start=lambda _: books.open(run_dir)
    )
    return time.time() - began


def test_every_attempt_is_entered_by_how_it_ended_and_nearly_nothing_is_left_over(tmp_path: Path) -> None:
    three = (1.0, 0.9, 0.8)
    scripts = {
        "good": Script(losses=three, epoch_seconds=EPOCH_SECONDS),
        "worse": Script(losses=(9.0, 9.0, 9.0), epoch_seconds=EPOCH_SECONDS),
        "cursed": Script(losses=three, epoch_seconds=EPOCH_SECONDS, raises=True),
        "killed": Script(losses=(0.9, 0.8, 0.7), epoch_seconds=EPOCH_SECONDS, kills=1),
    }
    seconds = spend(tmp_path, scripts, cpu=2)
    ledger = load(tmp_path)
    attempts = ledger[ledger["trial_id"].notna()]
    ended = list(zip(attempts["trial_id"], attempts["kind"], strict=True))
    assert sorted(ended) == sorted(
        [
            ("good", Kind.COMPLETED),
            ("worse", Kind.STOPPED),
            ("cursed", Kind.FAILED),
            ("killed", Kind.LOST),
            ("killed", Kind.COMPLETED),
        ]
    )
    took = dict(zip(ended, attempts["device_seconds"], strict=True))
    assert took["good", Kind.COMPLETED] >= 3 * EPOCH_SECONDS
    assert took["worse", Kind.STOPPED] >= EPOCH_SECONDS
    assert took["killed", Kind.LOST] >= EPOCH_SECONDS
    total = summary(ledger)
    assert total.machine.device_minutes * 60 == pytest.approx(seconds, rel=0.05)
    assert total.machine.cost_usd == pytest.approx(total.machine.device_minutes * 60), "a dollar a second"
    assert abs(total.residual_share) < 0.01
    assert sum(line.device_minutes for line in total.lines) == pytest.approx(total.machine.device_minutes, rel=0.01)


def test_a_place_that_has_nothing_to_do_is_idle_and_costs(tmp_path: Path) -> None:
    """Two places, and one trial that goes on when the other has ended."""
    scripts = {
        "short": Script(losses=(1.0,), epoch_seconds=0.1),
        "long": Script(losses=(1.0, 0.9, 0.8), epoch_seconds=EPOCH_SECONDS),
    }
    spend(tmp_path, scripts, cpu=1)
    (long,) = [entry for entry in starts(tmp_path) if entry["trial_id"] == "long"]
    (short,) = [entry for entry in starts(tmp_path) if entry["trial_id"] == "short"]
    idle = load(tmp_path).query("kind == @Kind.IDLE.value")["device_seconds"].sum()
    assert idle == pytest.approx((long["end"] - short["end"]) / 2, abs=0.4), "half of the machine"
    assert abs(summary(load(tmp_path)).residual_share) < 0.01


def test_a_machine_that_is_not_in_the_books_before_ray_starts_is_counted_from_then_on(tmp_path: Path) -> None:
    books = Books()
    books.add_machine(Machine(node="elsewhere", instance_type=None, usd_per_hour=None), from_start=True)
    books.open(tmp_path)
    books.write()
    assert load(tmp_path)["cost_usd"].isna().all(), "without a price the cost is unknown, not 0"
