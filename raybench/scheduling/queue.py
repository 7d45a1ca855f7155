"""Which trial starts next, and whether one more may: what keeps a run of many trials as quick as one of few.

In: trials in the order in which they start, and the machines that Ray has. Out: what Ray Tune asks for, one trial
at a time, and the end of a Tuner with its last trial.

Left to itself, Ray Tune copies the whole list for each entry of a grid search, goes through all trials at every step,
makes a placement group for each of two hundred waiting ones, and looks for the files of every trial at the end.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from raybench.records import Trial
from raybench.scheduling.letting_go import EVERY, let_go
from raybench.scheduling.resources import Node, Share, count_places, nodes
from raybench.scheduling.trainable import trial_config
from raybench.scheduling.unsaved import Unsaved

Kinds = tuple[str, ...]
"""Of accelerators, of which a trial's machine has one; empty: any machine."""
ROOM_SECONDS = 10
"""How long a machine that joins the cluster may wait until trials are meant for it."""


class InOrder(Unsaved, FIFOScheduler):
    """Starts trials in the order in which Ray Tune hears of them, and never ends one; knows which have not ended.

    `on_lost` is told of each trial whose process was lost, before it is begun again; `weigh` says how many places the
    trial of an id takes, and `kinds` on which kinds of accelerator it may run.
    """

    _supports_buffered_results = False  # every epoch is told, and judged, before its trial goes on

    def __init__(
        self,
        *,
        on_lost: Callable[[TuneTrial], None] = lambda _: None,
        weigh: Callable[[str], int] = lambda _: 1,
        kinds: Callable[[str], Kinds] = lambda _: (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kinds = kinds
        self._live: dict[TuneTrial, None] = {}
        """In the order in which they came."""
        self._on_lost = on_lost
        self._weigh = weigh
        self._completed = 0

    def on_trial_add(self, tune_controller: object, trial: TuneTrial) -> None:
        """Hear of a trial, or once more of one whose worker was lost."""
        del tune_controller
        self._live[trial] = None

    def on_trial_error(self, tune_controller: object, trial: TuneTrial) -> None:
        """Hear that a process was lost: the last moment at which its trial can be given more of a machine."""
        del tune_controller
        if trial.status == TuneTrial.ERROR:  # else it is not begun again here, and this may be heard a second time
            self._on_lost(trial)

    def on_trial_complete(self, tune_controller: object, trial: TuneTrial, result: Mapping[str, Any]) -> None:
        """Hear that a trial ended; now and then, free what Ray Tune keeps of those before it."""
        del trial, result
        self._completed += 1
        if self._completed % EVERY == 0:
            let_go(tune_controller)

    def choose_trial_to_run(self, tune_controller: object) -> TuneTrial | None:
        """Return the first trial that waits; FIFO would look for it among all that ever ran."""
        del tune_controller
        return next((trial for trial in self._live if trial.status == TuneTrial.PENDING), None)

    def count_live(self, kinds: Kinds = ()) -> int:
        """Return how many places are taken by trials that Ray Tune has heard of and that have not ended.

        With `kinds`, by those that may run on no others.
        """
        self._live = {trial: None for trial in self._live if not trial.is_finished()}  # type: ignore[no-untyped-call]
        live = [trial.config["trial"] for trial in self._live]
        return sum(self._weigh(each) for each in live if not kinds or set() < set(self._kinds(each)) <= set(kinds))


class Room:
    """How many trials Ray may hold at a time: those that fit on the machines, seen anew every few seconds."""

    def __init__(
        self,
        share: Share,
        *,
        spare: int,
        machines: Callable[[], Sequence[Node]] = nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the share of each trial, and how many more are to wait for machines that may come."""
        self._share = share
        self._spare = spare
        self._machines = machines
        self._clock = clock
        self._seen: Sequence[Node] = ()
        self._seen_at = -math.inf

    def __call__(self, kinds: Kinds = ()) -> int:
        """Return the number of trials, at least one; with `kinds`, on machines of these alone."""
        if self._clock() - self._seen_at >= ROOM_SECONDS:
            self._seen = tuple(self._machines())
            self._seen_at = self._clock()
        share = replace(self._share, accelerators=kinds) if kinds else self._share
        return max(1, count_places(share, self._seen) + self._spare)


class TrialQueue(Unsaved, Searcher):
    """Hands trials to Ray Tune in the given order, one more only while there is room for it.

    Trials that may run on some kinds of accelerator alone come first: the others can take what these leave.

    A trial that ends leaves its process to the next one. For one that Ray Tune hears of before, it makes a placement
    group, only to take it back then.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        *,
        count_live: Callable[[Kinds], int],
        room: Callable[[Kinds], int],
        may_start: Callable[[Trial], bool] = lambda _: True,
        weigh: Callable[[str], int] = lambda _: 1,
        kinds: Callable[[Trial], Kinds] = lambda _: (),
    ) -> None:
        """Take trials in the order in which they start; one that may not start when its turn comes never does.

        `weigh` says how many places the trial of an id takes, and `kinds` on which kinds of accelerator one may run.
        """
        super().__init__()
        lines: defaultdict[Kinds, deque[Trial]] = defaultdict(deque)
        for trial in trials:
            lines[kinds(trial)].append(trial)
        self._lines = dict(sorted(lines.items(), key=lambda line: not line[0]))
        self._count_live = count_live
        self._room = room
        self._may_start = may_start
        self._weigh = weigh

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:  # type: ignore[override]  # Ray Tune's annotation knows nothing of FINISHED
        """Return the config of the next trial, None where it has to wait, or that none comes any more."""
        del trial_id
        for kinds, waiting in self._lines.items():
            taken, places = self._count_live(kinds), self._room(kinds)
            while waiting:
                times = self._weigh(waiting[0].trial_id)
                if taken and taken + times > places:
                    break
                trial = waiting.popleft()
                if self._may_start(trial):
                    return trial_config(trial, times=times, kinds=kinds)
        if any(self._lines.values()):
            return None
        # Said in so many words, since fewer came than were announced: Ray Tune would wait ten minutes for the others.
        return str(Searcher.FINISHED)

    def ended(self) -> bool:
        """Return whether every trial was handed over and has ended."""
        return not any(self._lines.values()) and not self._count_live(())

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002 - Ray Tune's signature
        """Nothing is learned from a trial."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write nothing: it would never be read back."""


class AllEnded(Exception):  # noqa: N818 - no error
    """Every trial of a Tuner has ended."""


class Finish(Unsaved, Callback):
    """Ends a Tuner with its last trial.

    Otherwise Ray Tune would write a snapshot, and look for the files of its loggers, for every trial: some
    milliseconds each, for what nobody reads.
    """

    def __init__(self, has_ended: Callable[[], bool]) -> None:
        self._has_ended = has_ended

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: object) -> None:
        """Raise where no trial is left.

        Raises:
            AllEnded: which Ray Tune lets through, after it has ended its processes.

        """
        del iteration, trials, info
        if self._has_ended():
            raise AllEnded
