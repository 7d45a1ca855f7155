"""What follows when a trial's process ends without having said how: from its checkpoint once more, or a failed row.

A process that took more memory than its share (its own guard ends it, torch raises, or the kernel kills it) is given
twice as much, up to a whole GPU or machine. A machine that goes away, as spot machines do, is no failure of its trials:
they are begun again on another. For any other reason a trial is begun again a few times as it was.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial

from raybench.events import Notice
from raybench.process_memory import kernel_kills
from raybench.records import Trial
from raybench.scheduling.decisions import find_desk
from raybench.scheduling.driver import TELL_SECONDS, Announcer, Problems
from raybench.scheduling.shares import Shares
from raybench.trials import describe

GIGABYTE = 1e9


class Losses:
    """Decides about each lost process.

    Args:
        trials: by id.
        shares: what each trial holds.
        most: processes that a trial may lose for other reasons than memory.
        desk: name of the actor that trials ask.
        machines_of: Ray's ids of the machines where a trial was begun last; none where that is unknown.
        is_there: whether the machine of an id is still there.
        announcer: writes the row of a trial that is given up.
        problems: where it is kept what went wrong.

    """

    def __init__(
        self,
        trials: Mapping[str, Trial],
        shares: Shares,
        *,
        most: int,
        desk: str,
        machines_of: Callable[[str], tuple[str, ...]],
        is_there: Callable[[str], bool],
        announcer: Announcer,
        problems: Problems,
    ) -> None:
        self._trials = trials
        self._shares = shares
        self._most = most
        self._desk = desk
        self._machines_of = machines_of
        self._is_there = is_there
        self._announcer = announcer
        self._problems = problems
        self._lost: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
        """On which machines each trial has lost a process for other reasons than memory; none: nobody knows."""
        self._kills = kernel_kills()

    def lost(self, attempt: TuneTrial) -> None:
        """Settle what follows; Ray Tune is about to begin the trial again."""
        with self._problems.caught("what follows a lost process could not be settled"):
            self._settle(attempt)

    def _settle(self, attempt: TuneTrial) -> None:
        trial_id = attempt.config["trial"]
        if trial_id in self._announcer.statuses:  # it was given up, and this was its end
            attempt.max_failures = 0
            return
        took: Any = ray.get(find_desk(self._desk).outgrown.remote(trial_id), timeout=TELL_SECONDS)
        kills, before = kernel_kills(), self._kills
        self._kills = kills
        if took is None and kills == before:
            self._begin_again(attempt, trial_id)
            return
        trial = self._trials[trial_id]
        if self._shares.grow(trial):
            share = self._shares.of(trial)
            attempt.update_resources(share.placement())
            text = f"{describe(trial)}: {_taken(took)}; it goes on with {share.times} times a trial's share"
            self._announcer.tell(Notice(text=text, lasting=True))
        else:
            self._give_up(
                attempt,
                "OutOfMemory",
                f"{_taken(took)}, with all the memory that a trial can have; a smaller batch_size may fit",
            )

    def _begin_again(self, attempt: TuneTrial, trial_id: str) -> None:
        """Let a trial go on from its checkpoint, as often as its machine went away, else a few times."""
        lost = self._lost[trial_id]
        lost.append(self._machines_of(trial_id))
        there = [places for places in lost if all(map(self._is_there, places))]
        if len(there) > self._most:
            self._give_up(
                attempt,
                "WorkerLost",
                f"its process ended {len(there)} times without an error of its own, as when code of its crashes",
            )
        elif len(there) < len(lost):
            text = f"{describe(self._trials[trial_id])}: its machine went away; it goes on elsewhere"
            self._announcer.tell(Notice(text=text, lasting=True))

    def _give_up(self, attempt: TuneTrial, kind: str, reason: str) -> None:
        attempt.max_failures = 0
        trial_id = attempt.config["trial"]
        # Ray Tune begins it once more all the same: it is told to leave.
        ray.get(find_desk(self._desk).pause.remote(trial_id), timeout=TELL_SECONDS)
        self._announcer.settle(trial_id, reason, retries=attempt.num_failures - 1, kind=kind)


def _taken(memory_bytes: int | None) -> str:
    if memory_bytes is None:
        return "the kernel ended its process for want of memory"
    return f"its process took {memory_bytes / GIGABYTE:.2f} GB of memory, more than its share"
