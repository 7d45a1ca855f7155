import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from raybench.ledger import Entry, Kind, append, load, summary
from raybench.quote import Quote, QuoteLine, Range
from raybench.report.spend_views import ledger_sentences, ledger_view, quote_sentences, quote_view

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


def entry(kind: Kind, seconds: float, price: float | None) -> Entry:
    return Entry(session="s", kind=kind, node="n", seconds=seconds, device_share=1.0, usd_per_hour=price)


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
    append(
        tmp_path,
        [entry(Kind.MACHINE, 100, price), entry(Kind.COMPLETED, 89, price), entry(Kind.IDLE, 10.99, price)],
    )
    spent = summary(load(tmp_path))
    text = text_of(ledger_view(spent, QUOTE))
    assert "completed trials" in text
    assert "89.0 %" in text
    assert "Not covered by any of them: < 0.1 % of the machine time." in text
    quoted = ledger_sentences(spent, QUOTE)[-1]
    if price is None:
        assert "Cost is unknown without a price" in text
        assert quoted.endswith("Actual: 1 min 40 s.")
    else:
        assert "$0.089" in text
        assert quoted == "Quoted: 1 min to 3 min, $0.020 to $0.060. Actual: 1 min 40 s, $0.10."
    assert not any("Quoted" in line for line in ledger_sentences(spent, None))
