"""How an experiment's trials are run: the experiment, its run directory and the command line in, `Settings` out.

What can be wrong with them is found here, before anything is read or started.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.budget import Budget, spent_before
from raybench.errors import ExperimentError
from raybench.experiment import Experiment
from raybench.prices import per_hour, prices
from raybench.records import Facts
from raybench.spending import Books, Machine

if TYPE_CHECKING:
    from raybench.scheduling.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Machines:
    """What the command line says about the machines to run on."""

    num_cpus: int | None = None
    """Cores that this machine counts as having; None: those it has."""
    num_gpus: int | None = None
    """GPUs that this machine counts as having; None: those it has."""
    address: str | None = None
    """Of a Ray cluster; None: Ray is started here, for this run."""


def run_settings(
    experiment: Experiment,
    label: str,
    run_dir: Path,
    machines: Machines,
    *,
    log_to: Sequence[str] = (),
    books: Books | None = None,
) -> "Settings":
    """Return how the trials of a run are run; `label` names the experiment's file.

    Raises:
        InputError: the machine cannot give what a trial asks for, the budget cannot be kept or is spent, or a tracker
            is not known.

    """
    # Imported here, as below: ray and torch take seconds, and who reads a run needs neither.
    from raybench.scheduling.cluster import LOCAL_INSTANCE  # noqa: PLC0415
    from raybench.scheduling.meters import BENCH  # noqa: PLC0415
    from raybench.scheduling.settings import Settings, check_settings  # noqa: PLC0415
    from raybench.training.devices import find_devices  # noqa: PLC0415

    books = books or Books()
    usd_per_hour = per_hour(prices(experiment.price_per_hour_usd))
    settings = Settings(
        asha=experiment.asha_settings(),
        resources=experiment.resource_request(),
        num_cpus=machines.num_cpus,
        num_gpus=machines.num_gpus,
        address=machines.address,
        price_per_hour_usd=usd_per_hour,
        cache_limit_bytes=experiment.cache_limit_bytes,
        bench=BENCH if experiment.resources.measure else None,
        books=books,
        experiment=experiment.name,
        memory_bytes=experiment.memory_bytes,
        trial_timeout_seconds=experiment.trial_timeout_seconds,
        budget=_budget(experiment, run_dir, usd_per_hour, books),
        log_to=_trackers(log_to),
    )
    if machines.address is None:  # else this may be a head that runs no trials
        here = Machine(
            node=platform.node(), instance_type=LOCAL_INSTANCE, usd_per_hour=usd_per_hour.get(LOCAL_INSTANCE)
        )
        books.add_machine(here, from_start=True)
    if settings.budget is not None:
        settings.budget.check(label)
    try:
        check_settings(settings, cpus=os.cpu_count() or 1, gpus=len(find_devices().gpus))
    except ExperimentError as error:
        raise ExperimentError(f"{label}: {error}") from None
    return settings


def with_facts(settings: "Settings", facts: Facts) -> "Settings":
    """Return the settings with what preflight learned."""
    return replace(settings, val_images={name: dataset.val_images for name, dataset in facts.datasets.items()})


def _budget(experiment: Experiment, run_dir: Path, usd_per_hour: Mapping[str, float], books: Books) -> Budget | None:
    asked = experiment.budget
    if asked is None:
        return None
    return Budget(usd=asked.usd, hours=asked.hours, earlier=spent_before(run_dir, usd_per_hour), books=books)


def _trackers(log_to: Sequence[str]) -> tuple[str, ...]:
    """Return what else epochs and scores go to. Raises InputError."""
    if log_to:
        from raybench.scheduling.loggers import check_trackers  # noqa: PLC0415

        check_trackers(log_to)
    return tuple(dict.fromkeys(log_to))
