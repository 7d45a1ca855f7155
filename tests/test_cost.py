import math

import numpy as np
import pandas as pd
import pytest

from raybench.cost import add_cost, device_minutes, device_share, price_of

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
def test_cost_is_seconds_times_share_times_price(columns: dict[str, object], cost: float) -> None:
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


def test_share_is_that_of_the_gpu_where_one_was_used() -> None:
    shares = device_share(pd.DataFrame([trial(gpu_fraction=0.25), trial(gpu_fraction=0.0), trial()]))
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.5])


def test_price_is_unknown_without_an_instance_type() -> None:
    assert price_of("local", PRICES) == 0.4
    assert math.isnan(price_of(None, PRICES))
    assert math.isnan(price_of(math.nan, PRICES))
