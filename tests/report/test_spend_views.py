import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from raybench.ledger import Entry, Kind, Summary, append, load, summary
from raybench.quote import Quote, QuoteLine, Range
from raybench.report.spend_views import ledger_sentences, ledger_view, quote_sentences, quote_view
from raybench.report.trial_pace import TrialPace

QUOTE = Quote(
    made_at="2026-01-01T00:00:00+00:00",
    trials=12,
    places=2,
    early_stopping=True,
    wall_seconds=Range(low=60, high=180),
    machine_usd=Range(low=0.02, high=0.06),
    lines=(
        QuoteLine(
            model="[red]resnet18",
            strategy="fine-tune",
            trials=12,
            seconds=Range(low=50, high=170),
            images_per_second=1.26,
        ),
    ),
)


def text_of(view: RenderableType) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(view)
    return file.getvalue()


def entry(kind: Kind, seconds: float, price: float | None, *, trial_id: str | None = None, session: str = "s") -> Entry:
    return Entry(
        session=session,
        kind=kind,
        node="n",
        seconds=seconds,
        device_share=1.0,
        usd_per_hour=price,
        trial_id=trial_id,
    )


def spent_on(folder: Path, *, seconds: float, trials: int = 12, tries: int = 0, sessions: int = 1) -> Summary:
    """What a run spent whose trials were trained in so many sessions, `seconds` long in all."""
    entries = [
        entry(kind, 0.1, 3.6, trial_id=f"{kind}{place}", session=str(place % sessions))
        for kind, count in ((Kind.COMPLETED, trials), (Kind.SEARCH, tries))
        for place in range(count)
    ]
    whole = [entry(Kind.MACHINE, seconds / sessions, 3.6, session=str(place)) for place in range(sessions)]
    folder.mkdir(parents=True, exist_ok=True)
    append(folder, [*entries, *whole])
    return summary(load(folder))


@pytest.fixture(params=[3.6, None])
def price(request: pytest.FixtureRequest) -> float | None:
    value: float | None = request.param
    return value


def test_quote_says_time_cost_and_what_the_range_means() -> None:
    text = text_of(quote_view(QUOTE))
    assert "[red]resnet18" in text, "names are no markup"
    assert "1.3" in text
    assert "50 s to 2 min 50 s" in text
    assert "The run will take 1 min to 3 min, $0.020 to $0.060: 12 trials, 2 at once." in text
    assert "the most where none ends early" in text


def test_quote_without_a_price_or_without_anything_to_do_says_so() -> None:
    unpriced = Quote(**{name: getattr(QUOTE, name) for name in QUOTE.__slots__} | {"machine_usd": None})
    assert "at no known price" in quote_sentences(unpriced)[0]
    done = Quote(**{name: getattr(QUOTE, name) for name in QUOTE.__slots__} | {"trials": 0, "lines": ()})
    assert quote_sentences(done) == ["Nothing is left to train."]
    unmeasured = Quote(**{name: getattr(QUOTE, name) for name in QUOTE.__slots__} | {"unmeasured": ("odd",)})
    assert quote_sentences(unmeasured)[-1] == "Not in it, because they could not be measured: trials of odd."


def test_ledger_adds_up_with_what_nobody_measured_and_what_had_been_quoted(tmp_path: Path, price: float | None) -> None:
    parts = [entry(Kind.COMPLETED, 89 / 12, price, trial_id=str(place)) for place in range(12)]
    append(tmp_path, [entry(Kind.MACHINE, 100, price), *parts, entry(Kind.IDLE, 10.99, price)])
    spent = summary(load(tmp_path))
    text = text_of(ledger_view(spent, QUOTE, None))
    assert "completed trials" in text
    assert "89.0 %" in text
    assert "Not covered by any of these lines: < 0.1 % of the machine time." in text
    quoted = ledger_sentences(spent, QUOTE, None)[-1]
    if price is None:
        assert "Cost is unknown without a price" in text
        assert quoted.endswith("Actual: 1 min 40 s.")
    else:
        assert "$0.089" in text
        assert quoted == "Quoted for 12 trials: 1 min to 3 min, $0.020 to $0.060. Actual: 1 min 40 s, $0.10."
    assert not any("Quoted" in line for line in ledger_sentences(spent, None, None))


SLOW = TrialPace(ratio=1.9, expected=1.1)


def test_a_quote_of_other_trials_is_told_apart_from_what_the_run_took(tmp_path: Path) -> None:
    extended = spent_on(tmp_path / "extended", seconds=400, trials=18, sessions=2)
    assert ledger_sentences(extended, QUOTE, SLOW)[1:] == [
        "Quoted for 12 trials: 1 min to 3 min, $0.020 to $0.060. Actual, 18 trials in 2 sessions: 6 min 40 s, $0.40."
    ]
    resumed = spent_on(tmp_path / "resumed", seconds=120, sessions=2)
    assert ledger_sentences(resumed, QUOTE, SLOW)[-1].endswith("Actual in 2 sessions: 2 min, $0.12.")


def test_tries_of_learning_rates_are_counted_apart_from_trials(tmp_path: Path) -> None:
    searched = replace(QUOTE, trials=24, tries=60, lines=(replace(QUOTE.lines[0], trials=24, tries=60),))
    text = text_of(quote_view(searched))
    assert ": 24 trials after 60 tries, 2 at once." in text
    heading, row = (line.split() for line in text.splitlines() if "resnet18" in line or "images/s" in line)
    assert heading[2:4] == ["tries", "trials"]
    assert row[2:4] == ["60", "24"]
    assert "tries" not in text_of(quote_view(QUOTE))
    spent = spent_on(tmp_path, seconds=100, trials=24, tries=60)
    assert ledger_sentences(spent, searched, None)[-1].startswith("Quoted for 24 trials after 60 tries: 1 min to 3 min")
    assert (
        "Actual, 24 trials after 60 tries in 1 session" in ledger_sentences(spent, replace(QUOTE, trials=84), None)[-1]
    )


BESIDE = "times as long as measured alone, where 1.6 times was expected of trials side by side"


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (SLOW, "Trials took 1.9 times as long as measured alone: something else probably used the machine."),
        (
            TrialPace(ratio=1.9, expected=1.6),
            f"Trials took 1.9 {BESIDE}: something else probably used the machine.",
        ),
        (
            TrialPace(ratio=1.7, expected=1.6),
            f"Trials took 1.7 {BESIDE}; what else took time stands above.",
        ),
    ],
)
def test_a_run_that_took_longer_than_quoted_says_whether_its_trials_did(
    pace: TrialPace, said: str, tmp_path: Path
) -> None:
    longer = spent_on(tmp_path / "longer", seconds=200)
    assert ledger_sentences(longer, QUOTE, pace)[-1] == said
    assert "Quoted" in ledger_sentences(longer, QUOTE, None)[-1]
    within = spent_on(tmp_path / "within", seconds=170)
    assert "Quoted" in ledger_sentences(within, QUOTE, pace)[-1]


def test_ledger_names_the_machines_it_adds_up_and_those_without_a_price(tmp_path: Path) -> None:
    times = {"one": 102.0, "[b]two": 60.0}
    append(
        tmp_path,
        [
            replace(entry(Kind.MACHINE, seconds, None), node=node, instance_type="local" if node == "one" else "desk")
            for node, seconds in times.items()
        ],
    )
    said = ledger_sentences(summary(load(tmp_path)), None, None)
    assert said[0] == "Machine time is that of 2 machines together: one 1 min 42 s and [b]two 1 min."
    assert said[-1].startswith("Cost is unknown without a price for desk and local: price_per_hour_usd")
    alone = ledger_sentences(spent_on(tmp_path / "alone", seconds=10), None, None)
    assert not any("machines together" in each for each in alone)


def test_of_many_machines_the_longest_are_named(tmp_path: Path) -> None:
    append(tmp_path, [replace(entry(Kind.MACHINE, 60.0 + place, 1.0), node=f"m{place}") for place in range(12)])
    (said, *_) = ledger_sentences(summary(load(tmp_path)), None, None)
    assert said.startswith("Machine time is that of 12 machines together: m11 1 min 11 s, m10 ")
    assert said.endswith(" and 4 more.")
