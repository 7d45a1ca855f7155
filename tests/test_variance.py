import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.variance import (
    NO_PRIOR,
    Prior,
    Variance,
    Variances,
    joined,
    learn_prior,
    scaled,
    total,
    variance_over_seeds,
    variances_over_seeds,
)


def drawn(rng: np.random.Generator, count: int, freedom: int, spread: float) -> Variances:
    true = np.exp(rng.normal(0, spread, count))
    return known(true * rng.chisquare(freedom, count) / freedom, freedom)


def known(variances: np.ndarray | list[float], freedom: int) -> Variances:
    return Variances(variances=np.array(variances), degrees_of_freedom=np.full(len(variances), freedom))


def moderated(given: Variances, prior: Prior) -> list[Variance]:
    return [
        prior.moderate(Variance(variance=float(variance), degrees_of_freedom=int(freedom)))
        for variance, freedom in zip(given.variances, given.degrees_of_freedom, strict=True)
    ]


def test_variances_that_differ_by_chance_alone_are_pooled() -> None:
    seen = drawn(np.random.default_rng(0), 200, 2, spread=0)
    after = moderated(seen, learn_prior(seen))
    assert np.std([each.variance for each in after]) < 0.3 * np.std(seen.variances)
    assert min(each.degrees_of_freedom for each in after) > 8


def test_variances_that_differ_widely_are_left_nearly_alone() -> None:
    seen = drawn(np.random.default_rng(0), 200, 10, spread=3)
    assert max(each.degrees_of_freedom for each in moderated(seen, learn_prior(seen))) < 12


def test_degrees_of_freedom_do_not_exceed_those_of_the_data() -> None:
    seen = known([1.0] * 4, 2)
    assert {each.degrees_of_freedom for each in moderated(seen, learn_prior(seen))} == {8}
    assert {each.degrees_of_freedom for each in moderated(seen, learn_prior(seen, most_freedom=6))} == {6}


@pytest.mark.parametrize("seen", [known([], 2), known([1.0, 3.0], 2), known([0.0] * 5, 2)])
def test_too_few_or_vanishing_variances_are_left_alone(seen: Variances) -> None:
    assert learn_prior(seen) is NO_PRIOR
    own = Variance(variance=1.5, degrees_of_freedom=2)
    assert NO_PRIOR.moderate(own) is own


def test_one_seed_gets_no_variance_from_the_others() -> None:
    alone = Variance(variance=math.nan, degrees_of_freedom=0)
    prior = learn_prior(joined([known([math.nan], 0), known([1.0, 1.1, 0.9], 2)]))
    assert prior.degrees_of_freedom > 0
    assert prior.moderate(alone) is alone


def test_seeds_that_agreed_exactly_borrow_doubt_from_the_others() -> None:
    seen = known([0.0, 1.0, 1.1, 0.9, 1.2], 2)
    assert moderated(seen, learn_prior(seen))[0].variance > 0


def test_variances_over_different_numbers_of_seeds_inform_one_another() -> None:
    few, many = known([1.0, 2.0, 0.5], 1), known([1.1, 0.9, 1.2], 9)
    both = learn_prior(joined([few, many]))
    assert both.variance == pytest.approx(np.average([1.0, 2.0, 0.5, 1.1, 0.9, 1.2], weights=[1, 1, 1, 9, 9, 9]))
    assert both.most_freedom == 30


@given(
    columns=st.lists(
        st.lists(st.one_of(st.just(math.nan), st.floats(0, 1)), min_size=4, max_size=4), min_size=1, max_size=6
    )
)
def test_variances_of_columns_are_those_of_each_column_without_what_is_missing(columns: list[list[float]]) -> None:
    values = np.array(columns).T
    together = variances_over_seeds(values)
    for place, column in enumerate(columns):
        alone = variance_over_seeds(np.array([value for value in column if not math.isnan(value)]))
        assert together.degrees_of_freedom[place] == alone.degrees_of_freedom
        assert together.variances[place] == pytest.approx(alone.variance, abs=1e-15, nan_ok=True)


def test_nothing_to_join_gives_nothing() -> None:
    assert len(joined([]).variances) == 0


def test_variance_of_one_value_is_unknown() -> None:
    assert variance_over_seeds(np.array([0.5])).degrees_of_freedom == 0
    assert variance_over_seeds(np.array([0.5, 0.7])).variance == pytest.approx(0.02)


def test_sum_is_known_about_as_well_as_its_larger_part() -> None:
    large = Variance(variance=1.0, degrees_of_freedom=3)
    small = Variance(variance=0.001, degrees_of_freedom=1000)
    assert total(large, small).degrees_of_freedom == pytest.approx(3, rel=0.01)
    assert scaled(large, 4).variance == 0.25
    assert total(Variance(variance=0.0, degrees_of_freedom=3)).degrees_of_freedom == math.inf
