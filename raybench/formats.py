"""Numbers and names in, the text that people read out. Missing values become an empty string or a dash."""

import math
from collections.abc import Sequence

MISSING = "-"
PANDAS_MISSING = frozenset({"NAType", "NaTType"})
"""Classes of pandas.NA and pandas.NaT; pandas takes half a second to load, and who reads an experiment needs none."""
SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400
SHORT_SECONDS = 10
"""Durations below this keep a decimal."""
SMALL_USD = 1e-4
"""Costs below this keep one significant digit."""
SMALLEST_USD = 1e-7
"""Costs below this are only said to be below it."""
CENT = 0.01
FORMULA_STARTS = ("=", "+", "-", "@")
"""A spreadsheet takes a cell that begins so for a formula."""


def is_missing(value: object) -> bool:
    """Whether a cell of a DataFrame holds nothing: None, NaN or pandas.NA."""
    if type(value).__name__ in PANDAS_MISSING:
        return True
    return value is None or (isinstance(value, float) and math.isnan(value))


def accuracy_text(value: object, low: object = None, high: object = None, digits: int = 4) -> str:
    """A fraction, with half the width of its interval where there is one: `0.8012 ±0.0604`."""
    if is_missing(value):
        return MISSING
    text = f"{float(str(value)):.{digits}f}"
    if is_missing(low) or is_missing(high):
        return text
    return f"{text} ±{(float(str(high)) - float(str(low))) / 2:.{max(2, digits - 1)}f}"


def number_text(value: object, digits: int = 4) -> str:
    """A number with fixed digits."""
    return MISSING if is_missing(value) else f"{float(str(value)):.{digits}f}"


def probability_text(value: object) -> str:
    """A probability with two decimals; never 0 or 1: `0.83`, `<0.01`."""
    if is_missing(value):
        return MISSING
    number = float(str(value))
    return "<0.01" if number < CENT else ">0.99" if number > 1 - CENT else f"{number:.2f}"


def count_text(value: object, digits: int = 1) -> str:
    """A count, or a mean of counts with so many decimals where it is no whole number."""
    if is_missing(value):
        return MISSING
    number = float(str(value))
    return f"{number:.0f}" if number == round(number) else f"{number:.{digits}f}"


def duration_text(seconds: object) -> str:
    """Seconds as people write them: `0.8 s`, `42 s`, `2 min 05 s`, `5 min`, `1 h 05 min`, `3 d 04 h`."""
    if is_missing(seconds):
        return MISSING
    exact = float(str(seconds))
    if round(exact, 1) < SHORT_SECONDS:
        return f"{exact:.1f} s"
    whole = round(exact)
    if whole < SECONDS_PER_MINUTE:
        return f"{whole} s"
    if whole < SECONDS_PER_HOUR:
        return _in_two(whole // SECONDS_PER_MINUTE, "min", whole % SECONDS_PER_MINUTE, "s")
    if whole < SECONDS_PER_DAY:
        return _in_two(whole // SECONDS_PER_HOUR, "h", whole % SECONDS_PER_HOUR // SECONDS_PER_MINUTE, "min")
    return _in_two(whole // SECONDS_PER_DAY, "d", whole % SECONDS_PER_DAY // SECONDS_PER_HOUR, "h")


def _in_two(count: int, unit: str, rest: int, smaller: str) -> str:
    return f"{count} {unit} {rest:02d} {smaller}" if rest else f"{count} {unit}"


def clock_text(seconds: object) -> str:
    """Seconds in a narrow column: `0:42`, `2:20`, `1:05:00`; below ten seconds `0.8 s`."""
    if is_missing(seconds):
        return MISSING
    exact = float(str(seconds))
    if round(exact, 1) < SHORT_SECONDS:
        return f"{exact:.1f} s"
    minutes, rest = divmod(round(exact), SECONDS_PER_MINUTE)
    hours, minutes = divmod(minutes, SECONDS_PER_MINUTE)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def usd_text(value: object) -> str:
    """USD: two significant digits below a dollar, one below a hundredth of a cent: `$3.20`, `$0.0016`, `$0.000002`."""
    if is_missing(value):
        return MISSING
    cost = float(str(value))
    if cost < 0:
        return f"-{usd_text(-cost)}"
    if cost >= 1 or cost == 0:
        return f"${cost:,.2f}"
    if cost < SMALLEST_USD:
        return f"under ${SMALLEST_USD:.7f}"
    digits = 0 if cost < SMALL_USD else 1
    return f"${cost:.{digits - math.floor(math.log10(cost))}f}"


def money_text(value: object) -> str:
    """USD for readers who do not think in fractions of a cent: `$3.20`, `less than a cent ($0.0016)`."""
    text = usd_text(value)
    if is_missing(value):
        return text
    return f"less than a cent ({text})" if 0 < float(str(value)) < CENT else text


def percent_text(fraction: object, digits: int = 1) -> str:
    """A fraction in percent: `99.8 %`."""
    return MISSING if is_missing(fraction) else f"{100 * float(str(fraction)):.{digits}f} %"


def capitalized(sentence: str) -> str:
    """A sentence that begins with a capital, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters, its middle left out where it is longer."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def safe_text(value: object) -> str:
    """A name for the terminal: control characters become a question mark; nothing where it is missing."""
    if is_missing(value):
        return ""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def safe_cell(value: object) -> object:
    """A cell of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    text = safe_text(value)
    return f"'{text}" if value.lstrip().startswith(FORMULA_STARTS) else text


def number_of(number: int, noun: str) -> str:
    """A number of things as a sentence says it: `1 image`, `3 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def joined(names: Sequence[str], last: str = "and", *, most: int | None = None) -> str:
    """Names as a sentence lists them: `a`, `a and b`, `a, b and c`; of more than `most`, `a, b and 7 more`."""
    if most is not None and len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def error_line(error: object) -> str:
    """The line of an error's text that says what was wrong: the first, or the last where a traceback comes before."""
    lines = [] if is_missing(error) else str(error).strip().splitlines()
    if not lines:
        return "for an unknown reason"
    return safe_text(lines[-1 if lines[0].startswith("Traceback") else 0].strip())
