import math

import numpy as np
import pytest

from raybench.variance import Variance, moderate, scaled, total, variance_over_seeds


def variances(rng: np.random.Generator, count: int, freedom: int, spread: float) -> list[Variance]:
    true = np.exp(rng.normal(0, spread, count))
    return [
        Variance(variance=float(sigma * rng.chisquare(freedom) / freedom), degrees_of_freedom=freedom) for sigma in true
    ]


def test_variances_that_differ_by_chance_alone_are_pooled() -> None:
    given = variances(np.random.default_rng(0), 200, 2, spread=0)
    moderated = moderate(given)
    assert np.std([each.variance for each in moderated]) < 0.3 * np.std([each.variance for each in given])
    assert min(each.degrees_of_freedom for each in moderated) > 8


def test_variances_that_differ_widely_are_left_nearly_alone() -> None:
    given = variances(np.random.default_rng(0), 200, 10, spread=3)
    moderated = moderate(given)
    assert max(each.degrees_of_freedom for each in moderated) < 12


def test_degrees_of_freedom_do_not_exceed_those_of_the_data() -> None:
    given = [Variance(variance=1.0, degrees_of_freedom=2)] * 4
    assert {each.degrees_of_freedom for each in moderate(given)} == {8}
    assert {each.degrees_of_freedom for each in moderate(given, most_freedom=6)} == {6}


@pytest.mark.parametrize(
    "given",
    [
        [],
        [Variance(variance=1.0, degrees_of_freedom=2), Variance(variance=3.0, degrees_of_freedom=2)],
        [Variance(variance=0.0, degrees_of_freedom=2)] * 5,
    ],
)
def test_too_few_or_vanishing_variances_are_left_alone(given: list[Variance]) -> None:
    assert moderate(given) == tuple(given)


def test_one_seed_gets_no_variance_from_the_others() -> None:
    alone = Variance(variance=math.nan, degrees_of_freedom=0)
    moderated = moderate([alone, *[Variance(variance=1.0, degrees_of_freedom=2)] * 3])
    assert moderated[0] is alone


def test_seeds_that_agreed_exactly_borrow_doubt_from_the_others() -> None:
    known = [Variance(variance=value, degrees_of_freedom=2) for value in (0.0, 1.0, 1.1, 0.9, 1.2)]
    assert moderate(known)[0].variance > 0


def test_variance_of_one_value_is_unknown() -> None:
    assert variance_over_seeds(np.array([0.5])).degrees_of_freedom == 0
    assert variance_over_seeds(np.array([0.5, 0.7])).variance == pytest.approx(0.02)


def test_sum_is_known_about_as_well_as_its_larger_part() -> None:
    large = Variance(variance=1.0, degrees_of_freedom=3)
    small = Variance(variance=0.001, degrees_of_freedom=1000)
    assert total(large, small).degrees_of_freedom == pytest.approx(3, rel=0.01)
    assert scaled(large, 4).variance == 0.25
    assert total(Variance(variance=0.0, degrees_of_freedom=3)).degrees_of_freedom == math.inf
