"""How much of a machine each trial holds: one share as a rule, twice or four times as much where it takes more memory.

In: the share with which trials train most together, what each is expected to take, and the memory there is. Out: a
`Share` for each trial, which grows when its process turns out to need more. Doubling keeps kinds of shares few: Ray
Tune hands a process only from one trial to another of the same share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from raybench.choices import memory_key
from raybench.records import Footprint, ResourceRequest, Trial
from raybench.scheduling.resources import Node, Share, count_workers, held_share, kinds_of

MARGIN = 1.2
"""What a trial may take beyond what it is expected to."""
ROUNDING = 1e-3
"""A third of a GPU is counted as 0.3333 of it."""
TENSOR_SHARE = 0.75
"""Of what a trial may take of a GPU; the rest is for images that stay there."""


class Shares:
    """What each trial holds.

    Args:
        base: the least.
        machines: that Ray has.
        host_bytes: what trials may take together of each machine's memory.
        footprints: what trials are expected to take, by `memory_key`.
        request: what the experiment asks for; None: any machine will do.

    """

    def __init__(
        self,
        base: Share,
        machines: Sequence[Node],
        *,
        host_bytes: int,
        footprints: Mapping[str, Footprint],
        request: ResourceRequest | None = None,
    ) -> None:
        self.base = base
        self._request = request
        self._footprints = footprints
        self._times: dict[str, int] = {}
        self._host_bytes = host_bytes
        roomy = [machine for machine in machines if count_workers(base, [machine])]
        self._machine = max(roomy, key=lambda machine: (machine.gpus, machine.cpus), default=None)
        self._places = [count_workers(base, [machine]) for machine in roomy]
        self._most = self._most_times()

    def footprint(self, trial: Trial) -> Footprint | None:
        """Return what a trial is expected to take; None where that was not measured."""
        return self._footprints.get(memory_key(trial))

    def of(self, trial: Trial) -> Share:
        """Return what a trial holds now."""
        return replace(self.base, times=self.times(trial), accelerators=self.kinds(trial))

    def kinds(self, trial: Trial) -> tuple[str, ...]:
        """Return the kinds of accelerator that a trial may run on; empty: any machine."""
        return () if self._request is None else kinds_of(self._request, trial.model.name)

    def times(self, trial: Trial) -> int:
        """Return how many base shares a trial holds now."""
        if trial.trial_id not in self._times:
            self._times[trial.trial_id] = self._first(trial)
        return self._times[trial.trial_id]

    def grow(self, trial: Trial) -> bool:
        """Let a trial hold twice as much from now on; return False where it holds all that there is."""
        times = self.times(trial)
        if times >= self._most:
            return False
        self._times[trial.trial_id] = min(2 * times, self._most)
        return True

    def _first(self, trial: Trial) -> int:
        found = self.footprint(trial)
        times = 1
        while found is not None and times < self._most and not self._fits(found, times):
            times = min(2 * times, self._most)
        return times

    def _fits(self, found: Footprint, times: int) -> bool:
        if self._machine is None:
            return True
        share = replace(self.base, times=times)
        on_host = MARGIN * found.host_bytes <= self._host_bytes * held_share(share, self._machine)
        on_gpu = MARGIN * found.gpu_share <= TENSOR_SHARE * share.held_gpu
        return on_host and (on_gpu or not self.base.gpu)

    def _most_times(self) -> int:
        """Return how many base shares are a whole GPU, or all cores of the largest machine.

        Of several workers each must find as many: a trial that could never start would wait for ever.
        """
        if self._machine is None:
            return 1
        if self.base.workers > 1:
            return self._most_times_of_workers()
        parts = 1 / self.base.gpu if self.base.gpu else self._machine.cpus / self.base.cpu
        return max(1, math.floor(parts + ROUNDING))

    def _most_times_of_workers(self) -> int:
        if self.base.gpu:  # whole ones
            return 1
        fitting = (
            times
            for times in range(max(self._places), 0, -1)
            if sum(places // times for places in self._places) >= self.base.workers
        )
        return next(fitting, 1)
