"""Curves whose truth is known: what they predict, and how often their intervals hold it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.curve_fits import fit_curve

SIZES = np.array([300.0, 600, 1200, 2400, 4800])
FAR = np.array([19200.0])
INTERVAL = (0.025, 0.5, 0.975)


def power_law(sizes: np.ndarray, least: float, rate: float, first: float = 0.4) -> np.ndarray:
    return np.asarray(least + (first - least) * (sizes / 300) ** -rate)


def exponential_in_log(sizes: np.ndarray, least: float, rate: float, first: float = 0.4) -> np.ndarray:
    """A sigmoid in log n, of none of the fitted families."""
    return np.asarray(least + (first - least) * np.exp(-((np.log(sizes / 300)) ** 1.3) * rate))


def noisy(errors: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    deviations = 0.02 * errors
    return errors + rng.normal(0, 1, len(errors)) * deviations, deviations**2


@pytest.mark.parametrize("truth", [power_law, exponential_in_log])
@pytest.mark.parametrize("sizes", [SIZES, SIZES[::2]])
def test_intervals_hold_the_truth_and_the_median_beats_the_last_accuracy(truth: object, sizes: np.ndarray) -> None:
    assert callable(truth)
    rng = np.random.default_rng(0)
    inside, errors, carried = 0, [], []
    for _ in range(60):
        shape = {"least": rng.uniform(0, 0.15), "rate": rng.uniform(0.1, 0.7)}
        measured, variances = noisy(truth(sizes, **shape), rng)
        aim, aim_variance = noisy(truth(FAR, **shape), rng)
        low, middle, high = fit_curve(sizes, measured, variances).quantiles(FAR, aim_variance, INTERVAL)[0]
        inside += low <= aim[0] <= high
        errors.append(abs(middle - aim[0]))
        carried.append(abs(measured[-1] - aim[0]))
    assert inside >= 54
    assert np.mean(errors) < np.mean(carried) / 2


def test_fewer_sizes_and_further_away_widen_the_interval() -> None:
    errors = power_law(SIZES, 0.05, 0.4)
    variances = (0.02 * errors) ** 2

    def width(kept: list[int], size: float) -> float:
        curve = fit_curve(SIZES[kept], errors[kept], variances[kept])
        low, _, high = curve.quantiles(np.array([size]), np.zeros(1), INTERVAL)[0]
        return float(high - low)

    assert width([0, 2, 4], 19200) > width([0, 1, 2, 3, 4], 19200)
    widths = [width([0, 1, 2, 3, 4], size) for size in (4800, 9600, 19200, 38400)]
    assert widths == sorted(widths)


def test_flat_errors_stay_flat() -> None:
    curve = fit_curve(SIZES, np.full(5, 0.2), np.full(5, 1e-6))
    assert curve.quantiles(FAR, np.zeros(1), (0.5,))[0, 0] == pytest.approx(0.2, abs=0.01)
    assert curve.chance_of_gain(FAR, 0.05)[0] < 0.1


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=6), st.sampled_from([0.0, 1e-8, 1e-3]))
def test_whatever_was_measured_quantiles_are_ordered_fractions(errors: list[float], variance: float) -> None:
    sizes = 100.0 * 2 ** np.arange(len(errors))
    curve = fit_curve(sizes, np.array(errors), np.full(len(errors), variance))
    quantiles = curve.quantiles(sizes * 2, np.full(len(errors), variance), INTERVAL)
    assert np.isfinite(quantiles).all()
    assert ((quantiles >= 0) & (quantiles <= 1)).all()
    assert (np.diff(quantiles, axis=1) >= -1e-6).all()
    assert curve.weights.sum() == pytest.approx(1)
    chances = curve.chance_of_gain(sizes[-1:] * 2, 0.01)
    assert 0 <= chances[0] <= 1
