"""What a trial costs alone: results and prices in, the same results with `standalone_cost_usd` out.

    standalone cost (USD) = train_seconds x share x price per hour / 3600

The share is the GPU fraction where a GPU was used, and the share of the machine's cores otherwise. An
unknown price, share or time gives an unknown cost (NaN), never 0: `device_minutes` stands in its place.

Covered: prices given by hand, by instance type. Not covered: measured throughput, a table of prices, spend.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_MINUTE = 60.0


def price_of(instance_type: object, price_per_hour_usd: Mapping[str, float]) -> float:
    """Price of a whole machine in USD an hour; NaN where the type is missing or has no price."""
    return float(price_per_hour_usd.get(instance_type, math.nan)) if isinstance(instance_type, str) else math.nan


def device_share(results: pd.DataFrame) -> pd.Series:
    """Part of the device each trial held, 0 to 1: `gpu_fraction` where it is above 0, else `cpu_share`."""
    gpu = _numbers(results, "gpu_fraction")
    return gpu.where(gpu > 0, _numbers(results, "cpu_share"))


def device_minutes(results: pd.DataFrame) -> pd.Series:
    """Minutes of a whole device that each trial took: `train_seconds` x share / 60. NaN where either is unknown."""
    return _numbers(results, "train_seconds") * device_share(results) / SECONDS_PER_MINUTE


def add_cost(results: pd.DataFrame, price_per_hour_usd: Mapping[str, float]) -> pd.DataFrame:
    """A copy of the results with `standalone_cost_usd` filled in.

    Args:
        results: one row a trial.
        price_per_hour_usd: price of a whole machine by instance type; an absent type has no known cost.

    Returns:
        All columns of the results; `standalone_cost_usd` is NaN where price, share or time is unknown.
    """
    types = results["instance_type"] if "instance_type" in results else pd.Series(None, results.index, dtype=object)
    prices = pd.Series([price_of(name, price_per_hour_usd) for name in types], results.index, dtype=float)
    cost = _numbers(results, "train_seconds") * device_share(results) * prices / SECONDS_PER_HOUR
    return results.assign(standalone_cost_usd=cost)


def _numbers(results: pd.DataFrame, column: str) -> pd.Series:
    """The column as floats; all NaN where it is missing."""
    if column not in results:
        return pd.Series(np.nan, results.index, dtype=float)
    return pd.to_numeric(results[column]).astype(float)
