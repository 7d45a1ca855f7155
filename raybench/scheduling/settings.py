"""How trials are run: what `raybench.scheduling.tune.run_trials` is asked for, and whether a machine can give it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import ray

from raybench.budget import Budget
from raybench.choices import Choices
from raybench.records import AshaSettings, ResourceRequest
from raybench.scheduling import resources
from raybench.scheduling.cluster import check_session
from raybench.spending import Books


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How trials are run; nothing of it changes what they result in, but for stopping early."""

    asha: AshaSettings | None
    """None: no trial is stopped because of others."""
    resources: ResourceRequest
    """Of each trial."""
    num_cpus: int | None = None
    """Cores that this machine counts as having; None: those it has."""
    num_gpus: int | None = None
    """GPUs that this machine counts as having; None: those it has."""
    address: str | None = None
    """`HOST:PORT` of a Ray cluster, or `auto`; None: Ray is started here, for this run."""
    price_per_hour_usd: Mapping[str, float] = field(default_factory=dict)
    """Of a whole machine, by instance type."""
    cache_limit_bytes: int | None = None
    """Most that a machine's cache folder may hold; None: what its disk holds."""
    budget: Budget | None = None
    """What the run may spend; None: whatever it takes."""
    val_images: Mapping[str, int] = field(default_factory=dict)
    """Sizes of val splits, by dataset, by which the budget tells what a trial will take."""
    trial_timeout_seconds: float | None = None
    """What an attempt at a trial may take before it is taken to hang; None: any time."""
    memory_bytes: int | None = None
    """Most of each machine's memory that trials may take together; None: of what it has, all but a reserve."""
    max_failures: int = 3
    """Lost workers that one trial survives; it goes on from its checkpoint each time."""
    execute: str = "raybench.training.execute:run"
    """`package.module:function` that trains one trial; see `raybench.scheduling.trainable.Execute`."""
    bench: str | None = None
    """`package.module:Class` that measures before the first trial; None: nothing is measured. See
    `raybench.scheduling.meters.Bench`."""
    earlier: Choices = field(default_factory=Choices)
    """What an earlier run on this run directory chose, which holds."""
    books: Books = field(default_factory=Books)
    """Where the time of machines is entered; these are nobody's."""
    log_to: tuple[str, ...] = ()
    """What else epochs and scores go to: of `raybench.scheduling.loggers.PACKAGES`."""
    experiment: str = ""
    """Its name, for those."""


def check_settings(settings: Settings, *, cpus: float = math.inf, gpus: float = math.inf) -> None:
    """Check what can be checked before Ray starts; `cpus` and `gpus` are what this machine has, where that is known.

    Raises:
        InputError: a share or a count that no machine can give, more than what this machine is declared to have, or
            an address where nothing listens.

    """
    check_session(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, address=settings.address)
    resources.check_request(settings.resources)
    if settings.address is not None or ray.is_initialized():
        return  # what there is then is for Ray to say
    here = resources.Node(
        cpus=cpus if settings.num_cpus is None else settings.num_cpus,
        gpus=gpus if settings.num_gpus is None else settings.num_gpus,
    )
    resources.fit(replace(settings.resources, accelerators={}), [here])  # Ray will say what kind its GPUs are
