"""What a trial costs alone: results and prices in, the same results with `standalone_cost_usd` out.

    standalone cost (USD) = standalone_seconds x device_share x price of the machine per hour / 3600

The seconds are images processed over images per second measured alone, and the share is the part of the machine that
the trial would have to itself then: whole GPUs, or its part of the cores. So neither packing, neighbours, cache hits
nor the order of trials can change a cost. Where nothing was measured, `train_seconds` x the share that the trial held
stands in: what it took in that run.

An unknown price, share or time gives an unknown cost (NaN), never 0: `device_minutes` stands in its place.

Covered: what training costs a trial. Not covered: what a run spent (`raybench.ledger`), prediction (`raybench.value`).
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


def held_share(results: pd.DataFrame) -> pd.Series:
    """Part of the machine that each trial held in its run, 0 to 1: of its GPUs, or of its cores where it used none."""
    gpu = _numbers(results, "gpu_fraction")
    whole = _numbers(results, "device_share")
    # device_share is of whole GPUs: a trial with a quarter of one held a quarter of that. Where it is unknown, as in
    # results of other tools, the machine is taken to have one GPU.
    of_gpus: pd.Series = (gpu / np.ceil(gpu.where(gpu > 0))) * whole.fillna(np.ceil(gpu))
    return of_gpus.where(gpu > 0, _numbers(results, "cpu_share"))


def device_minutes(results: pd.DataFrame) -> pd.Series:
    """Minutes of a whole machine that each trial takes alone, or took in its run where nothing was measured.

    NaN where seconds or share are unknown.
    """
    alone = _numbers(results, "standalone_seconds") * _numbers(results, "device_share")
    held = _numbers(results, "train_seconds") * held_share(results)
    return alone.fillna(held) / SECONDS_PER_MINUTE


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
    cost = device_minutes(results) * SECONDS_PER_MINUTE * prices / SECONDS_PER_HOUR
    return results.assign(standalone_cost_usd=cost)


def reprice(results: pd.DataFrame, price_per_hour_usd: Mapping[str, float]) -> pd.DataFrame:
    """`add_cost`, but a trial whose cost that leaves unknown keeps the one that it has."""
    own = _numbers(results, "standalone_cost_usd")
    return results.assign(standalone_cost_usd=add_cost(results, price_per_hour_usd)["standalone_cost_usd"].fillna(own))


def _numbers(results: pd.DataFrame, column: str) -> pd.Series:
    """The column as floats; all NaN where it is missing."""
    if column not in results:
        return pd.Series(np.nan, results.index, dtype=float)
    return pd.to_numeric(results[column]).astype(float)
