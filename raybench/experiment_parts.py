"""The parts of an experiment file that say how trials are run: scheduler, resources, budget; and what all parts share.

Nothing here decides what a trial computes. See `raybench.experiment`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from raybench import accepted
from raybench.yaml_input import shown

MOST = 2**31 - 1
"""Largest number of epochs, images and the like; more of anything is a slip."""
Count = Annotated[int, Field(strict=True, ge=1, le=MOST)]
NonNegativeCount = Annotated[int, Field(strict=True, ge=0, le=MOST)]
PositiveFloat = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
GroupColumn = Literal["dataset", "train_size", "seed", "model", "weights", "strategy"]
MINIMUM_REDUCTION = 2
MOST_WORKERS = 1024
"""Of a trial; more is a slip."""


class Part(BaseModel):
    """Base of all parts of an experiment: unknown keys are errors, nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def unique(values: Sequence[Any], what: str) -> None:
    """Raise ValueError where a value is there twice."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{shown(repr(value))} is there twice; each {what} stands once")
        seen.add(value)


class AshaConfig(Part):
    """Asynchronous successive halving within groups of trials."""

    metric: Literal["val_loss"] = "val_loss"
    grace_period: Count = 10
    """Epochs of a strategy's last phase before the first decision."""
    reduction_factor: Annotated[int, Field(strict=True, ge=MINIMUM_REDUCTION, le=MOST)] = 3
    """One trial in this many goes on at each rung."""
    group_by: list[GroupColumn] = Field(default=["dataset", "train_size", "seed"], min_length=1)
    """Trials that share these columns may stop one another."""

    @field_validator("group_by")
    @classmethod
    def _columns_stand_once(cls, columns: list[GroupColumn]) -> list[GroupColumn]:
        unique(columns, "column")
        return columns


class SchedulerConfig(Part):
    """Which trials are stopped early because of others."""

    asha: AshaConfig = AshaConfig()


class ResourcesConfig(Part):
    """What each trial asks for."""

    gpu: Annotated[float | Literal["auto"], BeforeValidator(accepted.gpu)] = "auto"
    """GPUs of a trial: auto, a fraction of one such as 0.25, or a whole number."""
    cpu: Annotated[float | Literal["auto"], BeforeValidator(accepted.cpu)] = "auto"
    """CPU cores of a trial: auto, or a number."""
    accelerator: Annotated[str | list[str] | dict[str, str | list[str]], BeforeValidator(accepted.accelerator)] = (
        accepted.ANY
    )
    """Which machines of a cluster trials run on: any, or those with a kind of accelerator (Ray's node label
    ray.io/accelerator-type), such as A10G or [A10G, L4]; by model: {resnet50: A10G}, and any for the others."""
    memory_gb: Annotated[float | Literal["auto"], BeforeValidator(accepted.memory_gb)] = "auto"
    """Most of a machine's memory that its trials may take together: auto (80 % of it), or a number of GB."""
    workers_per_trial: Annotated[int, Field(strict=True, ge=1, le=MOST_WORKERS)] = 1
    """Processes that train a trial together, each on a part of every batch; gpu and cpu are what each of them gets."""
    measure: bool = True
    """Measure before the first trial what auto means, and how each model's steps are computed soonest; false: auto
    is a whole GPU, or one core, and steps are computed as is usual."""


class BudgetConfig(Part):
    """What the run may spend, over all its sessions; at least one of the two."""

    usd: PositiveFloat | None = None
    """What its machines may cost; needs their price."""
    hours: PositiveFloat | None = None
    """How long it may last."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.usd is None and self.hours is None:
            raise ValueError("limits nothing; give usd, hours or both, such as {usd: 20, hours: 4}")
        return self


def named_scheduler(value: Any) -> Any:  # noqa: ANN401 - YAML holds anything
    """Return the keys of a scheduler that is given by its name."""
    if value in (None, "none"):
        return None
    if value == "asha":
        return {"asha": {}}
    if not isinstance(value, dict | SchedulerConfig):
        raise ValueError(f"{shown(repr(value))} is not accepted; give none, or asha with its keys below it")  # noqa: TRY004 - pydantic's
    return value


def check_gpu_of_workers(workers: int, gpu: float | None, *, sync: bool) -> None:
    """Raise ValueError where several workers of a trial cannot compute on that much of a GPU each; None: auto.

    `sync` says whether their BatchNorm is to be over the whole batch.
    """
    if gpu is not None and 0 < gpu < 1:
        raise ValueError(
            f"resources.gpu: {gpu:g} is not accepted with workers_per_trial: {workers}; each worker needs a GPU of its "
            "own: give a whole number, 0 or auto"
        )
    if gpu == 0 and sync:
        raise ValueError(
            f"training.sync_batchnorm: true is not accepted with workers_per_trial: {workers} on CPUs, for which torch "
            "has none; give false, or GPUs to train on"
        )
