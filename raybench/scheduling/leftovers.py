"""What workers of a trial held whose own process died: given back, so that the next trial finds room.

In: the hooks that Ray Tune calls. Out: placement groups removed that nobody looks after any more.

Ray Train makes one placement group for the workers of a trial, and removes it when they end. Where the process of the
trial is killed, Ray ends the workers with it, but keeps their group until the whole job ends. Ray Train's own cleaner
asks the dashboard, which a local run does not have.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray import PlacementGroupID
from ray.exceptions import RayError
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from raybench.scheduling.cluster import lost_process
from raybench.scheduling.driver import Problems
from raybench.scheduling.resources import Share
from raybench.scheduling.trainable import BEGUN
from raybench.scheduling.unsaved import Unsaved

REMOVED = "REMOVED"


class Leftovers(Unsaved, Callback):
    """Removes the placement group of a trial that did not end by itself.

    Args:
        share_of: what each worker of the trial of an id holds.
        problems: where it is kept what went wrong.

    """

    def __init__(self, *, share_of: Callable[[str], Share], problems: Problems) -> None:
        self._share_of = share_of
        self._problems = problems
        self._groups: dict[str, str] = {}
        """Of the trials whose workers are there, by id."""

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, Any], **info: object
    ) -> None:
        """Note which group the workers of a trial are in."""
        del iteration, trials, info
        if BEGUN in result:
            self._groups[trial.config["trial"]] = result[BEGUN].placement_group

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Forget a trial that ended by itself: its workers had ended before."""
        del iteration, trials, info
        self._groups.pop(trial.config["trial"], None)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Remove what a lost trial held; of one without workers that is Ray Tune's to do."""
        del iteration, trials, info
        trial_id = trial.config["trial"]
        if self._share_of(trial_id).workers == 1:
            return
        with self._problems.caught("what lost workers held could not be given back"):
            known = self._groups.pop(trial_id, None)
            for group in [known] if known is not None else self._unknown(self._share_of(trial_id)):
                _remove(group)

    on_trial_recover = on_trial_error

    def clear(self) -> None:
        """Remove what all trials hold that are still there; their processes are gone."""
        for group in self._groups.values():
            if lost_process() is None:  # else nobody is there any more who could
                with suppress(RayError):
                    _remove(group)
        self._groups.clear()

    def _unknown(self, share: Share) -> list[str]:
        """Return the groups of this job that are such a trial's and no known one's.

        The trial was lost before its workers were there. Where another one's are just being started, that begins again
        too: Ray Train makes it a new group.
        """
        job = ray.get_runtime_context().get_job_id()
        wanted = [share.bundle] * share.workers
        table: Mapping[str, Mapping[str, Any]] = placement_group_table()
        return [
            group
            for group, entry in table.items()
            if entry["state"] != REMOVED
            and group.endswith(job)
            and group not in self._groups.values()
            and list(entry["bundles"].values()) == wanted
        ]


def _remove(group: str) -> None:
    if placement_group_table().get(group, {}).get("state", REMOVED) != REMOVED:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
