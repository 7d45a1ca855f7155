"""Derived seeds."""

from hypothesis import given
from hypothesis import strategies as st

from raybench.seeding import derive


def test_a_seed_is_the_same_number_on_every_machine() -> None:
    assert derive(0, "head") == 1167996028246095495


@given(seed=st.integers(min_value=0), purpose=st.lists(st.text() | st.integers()))
def test_a_seed_fits_every_generator(seed: int, purpose: list[str | int]) -> None:
    assert 0 <= derive(seed, *purpose) < 2**63


def test_different_purposes_have_different_seeds() -> None:
    purposes: list[tuple[str | int, ...]] = [(), ("head",), ("order", 1), ("order", 2), ("order", "1"), ("order1",)]

    seeds = {derive(seed, *purpose) for purpose in purposes for seed in range(100)}

    assert len(seeds) == 600
