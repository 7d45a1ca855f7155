"""Ways to damage bytes and texts, for properties that hold whatever a file holds.

A short version of each property is part of `make test`; `make fuzz` looks at many more examples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st

from raybench.errors import RaybenchError

T = TypeVar("T")
SHORT: Final = 4
"""Examples of a test of many are this many times fewer: 25 where Hypothesis would try 100, 600 under `make fuzz`."""
LONGEST_SPLICE: Final = 64
MOST_WOUNDS: Final = 4


def examples(times_fewer: int = SHORT, *, shrink: bool = True) -> settings:
    """Return how many examples a property is tried on, a share of what the profile says.

    Without `shrink` the first example that fails is shown as it is: a smaller one takes minutes to find.
    """
    phases = [phase for phase in Phase if shrink or phase not in {Phase.shrink, Phase.explain}]
    return settings(max_examples=settings().max_examples // times_fewer, phases=phases)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt(Generic[T]):
    """What came of reading something."""

    value: T | None = None
    message: str | None = None
    """What a user reads, where it was refused."""


def attempt(read: Callable[[], T]) -> Attempt[T]:
    """Read something that may be refused; any other exception is a bug, and passes through."""
    try:
        return Attempt(value=read())
    except RaybenchError as error:
        return Attempt(message=str(error))


def places(length: int) -> st.SearchStrategy[int]:
    """Positions in something of that length, its ends more often than others."""
    return st.one_of(st.integers(0, min(length, LONGEST_SPLICE)), st.integers(0, length))


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """One of these byte strings, cut, overwritten, spliced with another, or with bits turned over."""
    content = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, MOST_WOUNDS))):
        at = draw(places(len(content)))
        at = draw(st.sampled_from([at, len(content) - at]))
        match draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "splice", "remove", "repeat"])):
            case "cut":
                content = content[:at]
            case "flip" if at < len(content):
                content = content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
            case "overwrite":
                span = draw(st.binary(min_size=1, max_size=LONGEST_SPLICE))
                content = content[:at] + span + content[at + len(span) :]
            case "insert":
                content = content[:at] + draw(st.binary(min_size=1, max_size=LONGEST_SPLICE)) + content[at:]
            case "splice":
                other = draw(st.sampled_from(originals))
                content = content[:at] + other[draw(places(len(other))) :]
            case "remove":
                content = content[:at] + content[at + draw(st.integers(1, LONGEST_SPLICE)) :]
            case "repeat":
                content = content[:at] + content[max(0, at - draw(st.integers(1, LONGEST_SPLICE))) :]
    return content
