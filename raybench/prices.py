"""What an hour of a machine costs: prices by instance type in, from three places; the first that knows one counts.

    the experiment's `price_per_hour_usd`
    the user's own file, prices.yaml in raybench's configuration folder: lines such as `local: 0.40`
    the table here: on-demand prices that a source can be cited for, with their date

Prices change: one from the table is as good as its date, and whoever has another contract gives their own. A machine
that none of the three knows has no price; the one where Ray is started for a run is called `local`.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from raybench.errors import InputError
from raybench.yaml_input import read_yaml

ENVIRONMENT: Final = "RAYBENCH_PRICES"
"""Names another file than the one in the configuration folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Of a whole machine."""

    usd_per_hour: float
    source: str
    """Who says so."""
    dated: str | None = None
    """ISO 8601 date of the source; None where the user gave the price."""


_AWS: Final = "AWS on-demand, Linux, us-east-1, as listed by instances.vantage.sh"
_AWS_DATED: Final = "2026-01-21"
_AWS_USD_PER_HOUR: Final[dict[str, float]] = {
    # NVIDIA T4
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g4dn.4xlarge": 1.204,
    "g4dn.8xlarge": 2.176,
    "g4dn.12xlarge": 3.912,
    "g4dn.16xlarge": 4.352,
    "g4dn.metal": 7.824,
    # NVIDIA A10G
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g5.4xlarge": 1.624,
    "g5.8xlarge": 2.448,
    "g5.12xlarge": 5.672,
    "g5.16xlarge": 4.096,
    "g5.24xlarge": 8.144,
    "g5.48xlarge": 16.288,
    # NVIDIA L4
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
    "g6.4xlarge": 1.3232,
    "g6.8xlarge": 2.0144,
    "g6.12xlarge": 4.6016,
    "g6.16xlarge": 3.3968,
    "g6.24xlarge": 6.6752,
    "g6.48xlarge": 13.3504,
    # NVIDIA L40S
    "g6e.xlarge": 1.861,
    "g6e.2xlarge": 2.24208,
    "g6e.4xlarge": 3.00424,
    "g6e.8xlarge": 4.52856,
    "g6e.12xlarge": 10.49264,
    "g6e.16xlarge": 7.57719,
    "g6e.24xlarge": 15.06559,
    "g6e.48xlarge": 30.13118,
    # NVIDIA V100
    "p3.2xlarge": 3.06,
    "p3.8xlarge": 12.24,
    "p3.16xlarge": 24.48,
    # NVIDIA A100
    "p4d.24xlarge": 21.957642,
    "p4de.24xlarge": 27.44705,
    # NVIDIA H100
    "p5.4xlarge": 6.88,
    "p5.48xlarge": 55.04,
    # NVIDIA H200
    "p5en.48xlarge": 63.296,
}
TABLE: Final[dict[str, Price]] = {
    name: Price(usd_per_hour=usd, source=_AWS, dated=_AWS_DATED) for name, usd in _AWS_USD_PER_HOUR.items()
}
"""By instance type."""


def prices(experiment: Mapping[str, float], user_file: Path | None = None) -> dict[str, Price]:
    """Return the price of each machine that has one, by instance type.

    Args:
        experiment: `price_per_hour_usd` of an experiment.
        user_file: default: that of the environment variable RAYBENCH_PRICES, or of the configuration folder.

    Raises:
        InputError: the user's file cannot be read, or a price in it is no number from 0 up.

    """
    path = user_file or user_prices_path()
    own = {name: Price(usd_per_hour=usd, source="the experiment") for name, usd in experiment.items()}
    return {**TABLE, **_of_user(path), **own}


def user_prices_path() -> Path:
    """Return the user's file of prices, which need not exist."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else platformdirs.user_config_path("raybench") / "prices.yaml"


def per_hour(known: Mapping[str, Price]) -> dict[str, float]:
    """Return the prices alone, in USD an hour by instance type."""
    return {name: price.usd_per_hour for name, price in known.items()}


def _of_user(path: Path) -> dict[str, Price]:
    if not path.exists():
        if os.environ.get(ENVIRONMENT):
            raise InputError(f"{path}: there is no such file, though {ENVIRONMENT} names it; make it, or unset that")
        return {}
    found = {}
    for name, usd in read_yaml(path).items():
        if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < math.inf:
            raise InputError(f"{path}: {name}: {usd!r} is not accepted; give USD an hour, such as 0.40")
        found[name] = Price(usd_per_hour=float(usd), source=str(path))
    return found
