import math

import numpy as np
import pandas as pd
import pytest

from raybench.cost import add_cost, device_minutes, held_share, price_of

PRICES = {"local": 0.4, "big": 36.0}


def trial(**columns: object) -> dict[str, object]:
    return {"train_seconds": 100.0, "gpu_fraction": None, "cpu_share": 0.5, "instance_type": "big"} | columns


@pytest.mark.parametrize(
    ("columns", "cost"),
    [
        ({}, 0.5),
        ({"gpu_fraction": 0.25}, 0.25),
        ({"gpu_fraction": 0.0}, 0.5),
        ({"instance_type": "local"}, 100 * 0.5 * 0.4 / 3600),
        ({"instance_type": "unpriced"}, math.nan),
        ({"instance_type": None}, math.nan),
        ({"train_seconds": None}, math.nan),
        ({"cpu_share": None}, math.nan),
        ({"cpu_share": None, "gpu_fraction": 1.0}, 1.0),
    ],
)
def test_unmeasured_cost_is_seconds_times_the_share_held_times_price(columns: dict[str, object], cost: float) -> None:
    assert add_cost(pd.DataFrame([trial(**columns)]), PRICES)["standalone_cost_usd"].tolist() == pytest.approx(
        [cost], nan_ok=True
    )


def test_unknown_cost_is_never_zero() -> None:
    without_columns = pd.DataFrame({"model": ["resnet18"]})
    assert add_cost(without_columns, PRICES)["standalone_cost_usd"].isna().all()
    assert add_cost(pd.DataFrame([trial()]), {})["standalone_cost_usd"].isna().all()


def test_results_passed_in_are_left_as_they_were() -> None:
    results = pd.DataFrame([trial()])
    add_cost(results, PRICES)
    assert "standalone_cost_usd" not in results


def test_device_minutes_need_no_price() -> None:
    assert device_minutes(pd.DataFrame([trial(instance_type=None)])).tolist() == pytest.approx([100 * 0.5 / 60])


def alone(**columns: object) -> dict[str, object]:
    return trial(standalone_seconds=60.0, device_share=0.25, **columns)


@pytest.mark.parametrize("gpu_fraction", [None, 0.0, 0.25, 1.0])
def test_measured_alone_cost_is_of_the_whole_device_whatever_was_packed_on_it(gpu_fraction: float | None) -> None:
    """One GPU of four at 36 USD an hour, for a minute."""
    priced = add_cost(pd.DataFrame([alone(gpu_fraction=gpu_fraction)]), PRICES)
    assert priced["standalone_cost_usd"].tolist() == pytest.approx([60 * 0.25 * 36 / 3600])
    assert device_minutes(priced).tolist() == pytest.approx([0.25])


@pytest.mark.parametrize("slowed_down", [1.0, 3.0])
def test_neighbours_that_slow_a_trial_down_change_no_cost_that_was_measured_alone(slowed_down: float) -> None:
    priced = add_cost(pd.DataFrame([alone(train_seconds=60.0 * slowed_down)]), PRICES)
    assert priced["standalone_cost_usd"].tolist() == pytest.approx([0.15])


def test_share_held_is_that_of_the_gpus_where_one_was_used() -> None:
    trials = [trial(gpu_fraction=0.25), trial(gpu_fraction=0.0), trial()]
    np.testing.assert_allclose(held_share(pd.DataFrame(trials)), [0.25, 0.5, 0.5])


def test_share_held_of_a_machine_with_several_gpus_is_of_all_of_them() -> None:
    """A quarter of one of four GPUs, and two of four."""
    trials = [trial(gpu_fraction=0.25, device_share=0.25), trial(gpu_fraction=2.0, device_share=0.5)]
    np.testing.assert_allclose(held_share(pd.DataFrame(trials)), [0.0625, 0.5])


def test_price_is_unknown_without_an_instance_type() -> None:
    assert price_of("local", PRICES) == 0.4
    assert math.isnan(price_of(None, PRICES))
    assert math.isnan(price_of(math.nan, PRICES))
