"""What a quote is made from: trials and the settings of a run in, measured `Terms` out. No trial is started.

What is measured is what the run itself would measure before its first trial, and in addition how trials that run at
once slow each other down. It is remembered on the machine, so that the run need not measure it again.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ray.exceptions import RayError

from raybench.errors import RaybenchError
from raybench.events import Notice
from raybench.quote import WORKER_SECONDS, Terms
from raybench.records import Trial
from raybench.scheduling import resources
from raybench.scheduling.choosing import Settled, settle
from raybench.scheduling.cluster import import_path, quiet_ray, ray_session
from raybench.scheduling.meters import BENCH, Origin
from raybench.scheduling.resources import count_places
from raybench.scheduling.settings import Settings, check_settings
from raybench.scheduling.waiting import wait_for_machines


def measure_terms(trials: Sequence[Trial], settings: Settings, tell: Callable[[Notice], None]) -> Terms:
    """Start or join Ray, measure, and return what trials will take; see `raybench.quote.make_quote`.

    Raises:
        InputError: the address does not answer, or a trial asks for more than a machine has.
        RaybenchError: Ray itself failed.

    """
    check_settings(settings)
    began = time.monotonic()
    with (
        quiet_ray(),
        ray_session(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, address=settings.address),
    ):
        ray_seconds = time.monotonic() - began
        wait_for_machines(settings.resources, tell=tell)
        machines = resources.nodes()
        origin = Origin(import_path=import_path(), directory=Path.cwd(), bench=settings.bench or BENCH)
        try:
            settled = settle(
                trials,
                request=settings.resources,
                machines=machines,
                earlier=settings.earlier,
                origin=origin,
                tell=tell,
                stopped=lambda: False,
                neighbours=True,
            )
        except RayError as error:
            raise RaybenchError(f"Ray failed while measuring: {error}; try it again") from error
        return _terms(settled, machines, settings, ray_seconds)


def _terms(settled: Settled, machines: Sequence[resources.Node], settings: Settings, ray_seconds: float) -> Terms:
    device = settled.device or ""
    roomy = [machine for machine in machines if count_places(settled.share, [machine])]
    hourly = [settings.price_per_hour_usd.get(machine.instance_type or "") for machine in roomy]
    known = [price for price in hourly if price is not None]
    return Terms(
        paces=settled.choices.paces.get(device, {}),
        places=max(1, count_places(settled.share, machines)),
        usd_per_hour=sum(known) if known and len(known) == len(hourly) else None,
        slowdown=settled.choices.slowdown.get(device, {}),
        start_seconds=ray_seconds,
        worker_seconds=WORKER_SECONDS if settled.worker_seconds is None else settled.worker_seconds,
    )
