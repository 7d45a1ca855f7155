"""The books of a session, by a clock that the test turns."""

from pathlib import Path

import pytest

from raybench.ledger import Kind, load, summary
from raybench.spending import Books, Machine, Spent
from tests.builders import Clock

HERE = Machine(node="here", instance_type="local", usd_per_hour=3600.0)
THERE = Machine(node="there", instance_type=None, usd_per_hour=None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(clock: Clock, tmp_path: Path) -> Books:
    made = Books(clock=clock, session="session")
    made.add_machine(HERE, from_start=True)
    made.open(tmp_path)
    return made


def spent(run_dir: Path) -> dict[str, float]:
    ledger = load(run_dir)
    return {str(kind): float(rows["device_seconds"].sum()) for kind, rows in ledger.groupby("kind")}


def test_a_session_from_start_to_end_is_covered(books: Books, clock: Clock, tmp_path: Path) -> None:
    clock.now += 1
    books.started()
    with books.during(Kind.MEASURING):
        clock.now += 2
    with books.trials({"here": 2}, {"here": 0.5}):
        clock.now += 4  # two processes start
        books.begin("a", "here", 0.5)
        clock.now += 1  # one still does
        books.begin("b", "here", 0.5)
        clock.now += 10
        books.end("a", Kind.COMPLETED, Spent(seconds=10.9, build_seconds=2.0))
        clock.now += 6  # half of the machine is idle
        books.end("b", Kind.STOPPED, Spent(seconds=15.8))
    clock.now += 3
    books.ended()
    assert spent(tmp_path) == pytest.approx(
        {
            "starting": 1,
            "measuring": 2,
            "starting workers": 0.5 * 4 + 0.5 * 5,
            "completed trials": 0.5 * 8.9,
            "cache and feature builds": 0.5 * 2,
            "stopped trials": 0.5 * 15.8,
            "idle": 0.5 * 6,
            "ending": 3,
            "machine": 1 + 2 + 4 + 1 + 10 + 6 + 3,
        }
    )
    unmeasured = 0.5 * (11 - 10.9) + 0.5 * (16 - 15.8)
    assert summary(load(tmp_path)).residual_share == pytest.approx(unmeasured / 27)


def test_an_attempt_without_a_word_from_its_process_counts_by_the_drivers_clock(
    books: Books, clock: Clock, tmp_path: Path
) -> None:
    with books.trials({"here": 1}, {"here": 1.0}):
        books.begin("a", "here", 1.0)
        clock.now += 7
        books.end("a", Kind.LOST)
        clock.now += 1
        books.begin("a", "here", 1.0)
        clock.now += 2
    assert spent(tmp_path) == pytest.approx(
        {"lost attempts": 7, "idle": 1, "interrupted attempts": 2, "starting workers": 0, "machine": 10}
    )


def test_a_session_that_ends_where_it_stands_is_covered_to_its_end(books: Books, clock: Clock, tmp_path: Path) -> None:
    with books.trials({"here": 3}, {"here": 0.25}):
        clock.now += 2
        books.begin("a", "here", 0.25)
        books.begin("b", "here", 0.25)
        clock.now += 40
        books.end("b", Kind.COMPLETED)
        clock.now += 8
        books.cut_off()
        assert spent(tmp_path) == pytest.approx(
            {
                "starting workers": 0.25 * (2 + 2 + 50),
                "lost attempts": 0.25 * 48,
                "completed trials": 0.25 * 40,
                "idle": 0.25 * 50 + 0.25 * 8,
                "machine": 50,
            }
        )
    assert summary(load(tmp_path)).residual_share == pytest.approx(0)


def test_what_a_session_does_when_it_is_cut_off_is_covered(books: Books, clock: Clock, tmp_path: Path) -> None:
    with books.during(Kind.MEASURING):
        clock.now += 9
        books.cut_off()
        assert spent(tmp_path) == pytest.approx({"measuring": 9, "machine": 9})


def test_cores_that_no_place_covers_are_idle(books: Books, clock: Clock, tmp_path: Path) -> None:
    with books.trials({"here": 1}, {"here": 0.75}):
        books.begin("a", "here", 0.75)
        clock.now += 8
        books.end("a", Kind.COMPLETED)
    assert spent(tmp_path)["idle"] == pytest.approx(2)


def test_tries_of_learning_rates_are_one_kind_however_they_end(books: Books, clock: Clock, tmp_path: Path) -> None:
    books.trial_kind = Kind.SEARCH
    with books.trials({"here": 1}, {"here": 1.0}):
        for name, kind in (("a", Kind.COMPLETED), ("b", Kind.FAILED)):
            books.begin(name, "here", 1.0)
            clock.now += 2
            books.end(name, kind)
    assert spent(tmp_path)["learning-rate search"] == pytest.approx(4)
    assert "failed trials" not in spent(tmp_path)


def test_what_was_spent_before_there_was_a_run_directory_is_written_once_there_is(clock: Clock, tmp_path: Path) -> None:
    books = Books(clock=clock)
    books.add_machine(HERE, from_start=True)
    with books.during(Kind.PREFLIGHT):
        clock.now += 5
    assert load(tmp_path).empty
    books.open(tmp_path)
    assert spent(tmp_path) == pytest.approx({"preflight": 5, "machine": 5})


def test_a_driver_that_is_killed_leaves_what_was_spent_until_the_last_entry(
    books: Books, clock: Clock, tmp_path: Path
) -> None:
    with books.trials({"here": 1}, {"here": 1.0}):
        books.begin("a", "here", 1.0)
        clock.now += 2
        books.end("a", Kind.COMPLETED)
        clock.now += 50
        assert spent(tmp_path)["machine"] == pytest.approx(2)


def test_a_full_disk_ends_no_run(clock: Clock, tmp_path: Path) -> None:
    books = Books(clock=clock)
    books.add_machine(HERE)
    run_dir = tmp_path / "absent"
    with books.during(Kind.PREFLIGHT):
        clock.now += 5
    books.open(run_dir)
    run_dir.mkdir()
    books.write()
    assert spent(run_dir)["preflight"] == pytest.approx(5), "what could not be written waits"


def test_a_second_machine_counts_from_when_it_is_seen(books: Books, clock: Clock, tmp_path: Path) -> None:
    clock.now += 5
    books.add_machine(THERE)
    with books.during(Kind.MEASURING):
        clock.now += 1
    books.write()
    machines = load(tmp_path).query("kind == 'machine'").set_index("node")
    assert machines["seconds"].to_dict() == pytest.approx({"here": 6, "there": 1})
    assert machines["cost_usd"].isna().to_dict() == {"here": False, "there": True}


def test_a_machine_that_comes_while_trials_run_is_covered_from_then_on(
    books: Books, clock: Clock, tmp_path: Path
) -> None:
    with books.trials({"here": 1}, {"here": 1.0}):
        books.begin("a", "here", 1.0)
        clock.now += 10
        books.add_machine(THERE, places=2, share=0.5)
        clock.now += 3
        books.begin("b", "there", 0.5)
        clock.now += 4
        books.end("b", Kind.COMPLETED)
        clock.now += 1
        books.end("a", Kind.COMPLETED)
    there = load(tmp_path).query("node == 'there'").groupby("kind")["device_seconds"].sum()
    assert there.to_dict() == pytest.approx(
        {"machine": 8, "starting workers": 1.5, "completed trials": 2, "idle": 0.5 + 4}
    ), "nobody took the second place"


def test_a_machine_that_was_away_between_tries_and_trials_is_ready_for_both(
    books: Books, clock: Clock, tmp_path: Path
) -> None:
    with books.trials({"here": 1}, {"here": 1.0}):
        books.begin("a", "here", 1.0)
        clock.now += 1
        books.add_machine(THERE, places=1, share=1.0)
        books.end("a", Kind.COMPLETED)
        clock.now += 1
    with books.trials({"here": 1, "there": 1}, {"here": 1.0, "there": 1.0}):
        clock.now += 2
    there = load(tmp_path).query("node == 'there'").groupby("kind")["device_seconds"].sum()
    assert there.to_dict() == pytest.approx({"machine": 3, "starting workers": 2, "idle": 1})
