"""Books what trials hold of machines while Ray Tune runs: its hooks in, entries of the ledger out."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ray._private.state import actors
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from raybench.ledger import Kind
from raybench.records import Status
from raybench.scheduling.resources import Share
from raybench.scheduling.roster import Roster
from raybench.scheduling.trainable import BEGUN, ENDED, SPENT
from raybench.scheduling.unsaved import Unsaved
from raybench.spending import Books

KINDS: Final[Mapping[Status, Kind]] = {
    Status.COMPLETED: Kind.COMPLETED,
    Status.STOPPED: Kind.STOPPED,
    Status.FAILED: Kind.FAILED,
    Status.UNFINISHED: Kind.INTERRUPTED,
}


class Bookkeeper(Unsaved, Callback):
    """Begins and ends attempts in the books.

    Args:
        books: of the session.
        roster: machines that are counted in them.
        workers: how many a trial has.
        share_of: what the trial of an id holds.

    """

    def __init__(self, books: Books, *, roster: Roster, workers: int, share_of: Callable[[str], Share]) -> None:
        self._books = books
        self._roster = roster
        self._workers = workers
        self._share_of = share_of
        self._on: dict[str, tuple[str, ...]] = {}
        """Where each trial was last begun: Ray's ids of the machines, by trial id."""

    def machines_of(self, trial_id: str) -> tuple[str, ...]:
        """Return Ray's ids of the machines where a trial was begun last; none where that is unknown."""
        return self._on.get(trial_id, ())

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Begin an attempt; one of several workers begins once they are there."""
        del iteration, trials, info
        if self._workers > 1:
            return
        node_id = self._node_of(trial)
        if node_id is not None:
            self._begin(trial.config["trial"], {node_id: 1})

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, Any], **info: object
    ) -> None:
        """End an attempt whose process says what it took, or begin one whose workers are there."""
        del iteration, trials, info
        if BEGUN in result:
            self._begin(trial.config["trial"], result[BEGUN].nodes)
        if ENDED in result:
            self._books.end(trial.config["trial"], KINDS[result[ENDED].status], result.get(SPENT))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """End an attempt whose worker was lost."""
        del iteration, trials, info
        self._books.end(trial.config["trial"], Kind.LOST)

    on_trial_recover = on_trial_error

    def _begin(self, trial_id: str, workers: Mapping[str, int]) -> None:
        """Begin an attempt of so many workers on each machine, by Ray's id."""
        share = self._share_of(trial_id)
        self._on[trial_id] = tuple(workers)
        for node_id, count in workers.items():
            name = self._roster.host_of(node_id)
            if name is not None:
                self._books.begin(trial_id, name, count * self._roster.held(share, node_id), places=count)

    def _node_of(self, trial: TuneTrial) -> str | None:
        """Return the machine of a trial's process; None where it is none that is counted."""
        only = self._roster.only()
        if only is not None:
            return only
        actor = trial.temporary_state.ray_actor
        said = actors(actor._actor_id.hex()) if actor is not None else {}  # noqa: SLF001 - Ray has no public way without its dashboard
        node_id: str | None = said.get("Address", {}).get("NodeID")
        return node_id if node_id is not None and self._roster.host_of(node_id) is not None else None
