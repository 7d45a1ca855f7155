"""Values of an experiment file that are of several kinds, checked: what YAML holds in, the same value out.

pydantic's own message for such a value names each kind in a line of its own; these raise a `ValueError` with one line
that says what is accepted.
"""
# ruff: noqa: ANN401 - YAML holds anything

import math
import re
from typing import Any, Final

from raybench.learning_rates import AUTO
from raybench.strategies import POLICIES
from raybench.yaml_input import shown

TIME_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""In seconds."""
MOST_GIGABYTES: Final = 1e9

ANY: Final = "any"
"""What stands for every kind of accelerator, and for none."""
NODE_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
"""What Ray accepts as the value of a node's label."""
CREDENTIALS: Final = re.compile(r"://[^/\s]*@")
"""What stands before the host of https://user:password@host/."""


def without_password(value: Any) -> Any:
    """Check that a text holds no URL with a password: a run stores its experiment. The value is not repeated."""
    if isinstance(value, str) and CREDENTIALS.search(value):
        raise ValueError(
            "a URL with a user name or password is not accepted, since the run would store it; leave it out, and log "
            "in to the host by its own means"
        )
    return value


def train_size(value: Any) -> Any:
    """Check a number of training images, or all."""
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"{shown(repr(value))} is not accepted; give a whole number above 0, or all")


def gpu(value: Any) -> Any:
    """Check a number of GPUs, or auto."""
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(
            f"{shown(repr(value))} is not accepted; give auto, a fraction such as 0.25, or a whole number of GPUs"
        )
    if value > 1 and value != int(value):
        raise ValueError(
            f"{shown(repr(value))} is not accepted; a fraction is below 1, and more than one GPU is a whole number"
        )
    return value


def accelerator(value: Any) -> Any:
    """Check what trials may run on: any, one kind of accelerator, several, or one of these by model."""
    kinds = value.values() if isinstance(value, dict) else [value]
    for each in kinds:
        names = each if isinstance(each, list) and each else [each]
        for name in names:
            if not isinstance(name, str) or not NODE_LABEL.fullmatch(name):
                raise ValueError(
                    f"{shown(repr(name))} is not accepted; give any, a kind of accelerator such as A10G, a list of "
                    "kinds, or one of these by model, such as {resnet50: A10G}"
                )
            if name == ANY and len(names) > 1:
                raise ValueError("any stands alone; leave it out of a list of kinds")
    return value


def cpu(value: Any) -> Any:
    """Check a number of cores, or auto."""
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{shown(repr(value))} is not accepted; give auto, or a number of cores above 0")
    return value


def memory_gb(value: Any) -> Any:
    """Check a number of GB, or auto."""
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST_GIGABYTES:
        raise ValueError(
            f"{shown(repr(value))} is not accepted; give auto, or a number of GB above 0 and below {MOST_GIGABYTES:.0f}"
        )
    return value


def price_per_hour_usd(value: Any) -> Any:
    """Check that prices stand by instance type; each is checked by itself."""
    if isinstance(value, dict):
        return value
    is_price = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    example = f"{value:g}" if is_price else "0.4"
    raise ValueError(
        f"{shown(repr(value))} is not accepted; give prices by instance type, such as "
        f"price_per_hour_usd: {{local: {example}}}"
    )


def trial_timeout(value: Any) -> Any:
    """Check a time such as 6h."""
    if value is None or (isinstance(value, str) and seconds_of(value) is not None):
        return value
    raise ValueError(
        f"{shown(repr(value))} is not accepted; give seconds, minutes, hours or days, such as 90s, 30m, 6h or 2d"
    )


def seconds_of(text: str) -> float | None:
    """Return the seconds of a time such as 6h; None where it is none, or no time at all."""
    parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) *([smhd])", text.strip())
    seconds = 0.0 if parts is None else float(parts[1]) * TIME_UNITS[parts[2]]
    return seconds or None


def train(value: Any) -> Any:
    """Check which layers a phase trains."""
    if value in ("head", "all") or (isinstance(value, list) and value and all(isinstance(name, str) for name in value)):
        return value
    raise ValueError(
        f"{shown(repr(value))} is not accepted; give head, all or a list of module names, such as [layer4]"
    )


def augment(value: Any) -> Any:
    """Check whether, or how, a strategy augments."""
    if isinstance(value, bool) or value in POLICIES:
        return value
    raise ValueError(f"{shown(repr(value))} is not accepted; give true, false or one of {', '.join(POLICIES)}")


def learning_rate(value: Any) -> Any:
    """Check a learning rate, or auto."""
    if value is None or value == AUTO:
        return value
    try:
        rate = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ValueError(f"{shown(repr(value))} is not accepted; give auto, or a finite number above 0")
    return rate
