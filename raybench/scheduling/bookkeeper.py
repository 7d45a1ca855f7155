"""Books what machines do while Ray Tune runs: its hooks in, entries of the ledger out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ray._private.state import actors
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from raybench.ledger import Kind
from raybench.records import Status
from raybench.scheduling.resources import Node, Share, count_workers, held_share, is_there
from raybench.scheduling.trainable import BEGUN, ENDED, SPENT
from raybench.scheduling.unsaved import Unsaved
from raybench.spending import Books, Machine

KINDS: Final[Mapping[Status, Kind]] = {
    Status.COMPLETED: Kind.COMPLETED,
    Status.STOPPED: Kind.STOPPED,
    Status.FAILED: Kind.FAILED,
    Status.UNFINISHED: Kind.INTERRUPTED,
}
SHORT_ID: Final = 6
"""Digits of a node's id that tell machines of one host name apart."""


class Bookkeeper(Unsaved, Callback):
    """Begins and ends attempts in the books.

    Args:
        books: of the session.
        share: the least that a trial holds.
        share_of: what the trial of an id holds.
        machines: that Ray has, now.
        usd_per_hour: by instance type.

    """

    def __init__(
        self,
        books: Books,
        *,
        share: Share,
        share_of: Callable[[str], Share] | None = None,
        machines: Callable[[], Sequence[Node]],
        usd_per_hour: Mapping[str, float],
    ) -> None:
        self.books = books
        self._share = share
        self._share_of = share_of or (lambda _: share)
        self._ask = machines
        self._usd_per_hour = usd_per_hour
        self._machines: dict[str, Node] = {}
        """By Ray's id."""
        self._names: dict[str, str] = {}
        self._on: dict[str, tuple[str, ...]] = {}
        """Where each trial was last begun: Ray's ids of the machines, by trial id."""

    def machines(self) -> Sequence[Node]:
        """Return the machines that Ray has, and count those that have room for a trial, until they are gone."""
        found = self._ask()
        for node_id in self._machines.keys() - {each.node_id for each in found}:
            self.books.remove_machine(self._names[node_id])
        for each in found:
            if each.node_id not in self._machines and count_workers(self._share, [each]):
                self._machines[each.node_id] = each
                taken = each.host in self._names.values()
                name = f"{each.host} {each.node_id[:SHORT_ID]}" if taken else each.host
                self._names[each.node_id] = name
                price = self._usd_per_hour.get(each.instance_type or "")
                self.books.add_machine(Machine(node=name, instance_type=each.instance_type, usd_per_hour=price))
        return found

    def places(self, most: int) -> dict[str, int]:
        """Return how many workers of at most so many trials fit on each machine, by name; as a rule a trial has one."""
        counted: dict[str, int] = {}
        most *= self._share.workers
        for node_id, name in self._names.items():
            counted[name] = min(count_workers(self._share, [self._machines[node_id]]), most - sum(counted.values()))
        return counted

    def shares(self) -> dict[str, float]:
        """Return what a worker holds of each machine, by name."""
        return {self._names[node_id]: held_share(self._share, each) for node_id, each in self._machines.items()}

    def machines_of(self, trial_id: str) -> tuple[str, ...]:
        """Return Ray's ids of the machines where a trial was begun last; none where that is unknown."""
        return self._on.get(trial_id, ())

    def is_there(self, node_id: str) -> bool:
        """Return whether a machine is still there; one that is not costs nothing any more."""
        found = {each.node_id: each for each in self.machines()}
        if node_id in found and not is_there(found[node_id]):
            self.books.remove_machine(self._names[node_id])
            return False
        return node_id in found

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Begin an attempt; one of several workers begins once they are there."""
        del iteration, trials, info
        if self._share.workers > 1:
            return
        node_id = self._node_of(trial)
        if node_id is not None:
            share = held_share(self._share_of(trial.config["trial"]), self._machines[node_id])
            self._on[trial.config["trial"]] = (node_id,)
            self.books.begin(trial.config["trial"], self._names[node_id], share)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, Any], **info: object
    ) -> None:
        """End an attempt whose process says what it took, or begin one whose workers are there."""
        del iteration, trials, info
        if BEGUN in result:
            self._begin_workers(trial.config["trial"], result[BEGUN].nodes)
        if ENDED in result:
            self.books.end(trial.config["trial"], KINDS[result[ENDED].status], result.get(SPENT))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """End an attempt whose worker was lost."""
        del iteration, trials, info
        self.books.end(trial.config["trial"], Kind.LOST)

    on_trial_recover = on_trial_error

    def _begin_workers(self, trial_id: str, workers: Mapping[str, int]) -> None:
        share = self._share_of(trial_id)
        self._on[trial_id] = tuple(workers)
        for node_id, count in workers.items():
            if node_id in self._machines:
                held = count * held_share(share, self._machines[node_id])
                self.books.begin(trial_id, self._names[node_id], held, places=count)

    def _node_of(self, trial: TuneTrial) -> str | None:
        """Return the machine of a trial's process; None where it is none that is counted."""
        if len(self._machines) == 1:
            return next(iter(self._machines))
        actor = trial.temporary_state.ray_actor
        said = actors(actor._actor_id.hex()) if actor is not None else {}  # noqa: SLF001 - Ray has no public way without its dashboard
        node_id = said.get("Address", {}).get("NodeID")
        return node_id if node_id in self._machines else None
