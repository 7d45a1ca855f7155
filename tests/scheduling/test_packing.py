"""How many trials at once pay, from images per second."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.scheduling.packing import GAIN, affordable_batch, best_number, most_in_memory, next_number

TOTALS = st.dictionaries(st.sampled_from([1, 2, 4, 8]), st.floats(1, 1e6) | st.just(math.nan))


@pytest.mark.parametrize(
    ("totals", "number"),
    [
        ({}, 1),
        ({1: 100}, 1),
        ({1: 100, 2: 180, 4: 181}, 2),
        ({1: 100, 2: 104, 4: 300}, 1),
        ({1: 100, 2: 105, 4: 111}, 4),
        ({1: 100, 2: 190, 4: math.nan}, 2),
        ({1: 100, 2: math.nan, 4: 300}, 1),
        ({1: 100, 2: 200, 4: 400, 6: 500}, 6),
    ],
)
def test_more_run_together_only_while_each_step_pays(totals: dict[int, float], number: int) -> None:
    assert best_number(totals) == number


@pytest.mark.parametrize(
    ("totals", "most", "number"),
    [
        ({}, 8, 1),
        ({1: 100}, 1, None),
        ({1: 100}, 8, 2),
        ({1: 100, 2: 180}, 8, 4),
        ({1: 100, 2: 180}, 3, 3),
        ({1: 100, 2: 101}, 8, None),
        ({1: 100, 2: math.nan}, 8, None),
        ({1: 100, 2: 180, 4: 360, 6: 500}, 6, None),
    ],
)
def test_numbers_double_until_a_step_does_not_pay(totals: dict[int, float], most: int, number: int | None) -> None:
    assert next_number(totals, most) == number


@given(speeds=TOTALS, most=st.integers(1, 100))
def test_the_search_ends_and_its_best_is_a_number_that_was_measured(speeds: dict[int, float], most: int) -> None:
    totals: dict[int, float] = {}
    while (number := next_number(totals, most)) is not None:
        assert number not in totals
        assert number <= most
        totals[number] = speeds.get(number, 1.0)
    best = best_number(totals)
    assert best in totals
    assert best == 1 or totals[best] >= GAIN * totals[1]


def test_processes_are_bounded_by_memory_but_one_may_always_run() -> None:
    assert most_in_memory(peak_bytes=2, memory_bytes=16, on_gpu=False) == 6
    assert most_in_memory(peak_bytes=2, memory_bytes=16, on_gpu=True) == 4, "images stay on a GPU"
    assert most_in_memory(peak_bytes=100, memory_bytes=16, on_gpu=False) == 1
    assert most_in_memory(peak_bytes=0, memory_bytes=10, on_gpu=False) == 8


@pytest.mark.parametrize(("images_per_second", "batch_size"), [(1000, 32), (64, 32), (63, 16), (10, 4), (0.01, 2)])
def test_large_models_are_measured_in_smaller_batches(images_per_second: float, batch_size: int) -> None:
    assert affordable_batch(32, images_per_second, seconds=0.5) == batch_size
    assert affordable_batch(1, images_per_second, seconds=0.5) == 1
