"""Which of Ray's machines a session pays for, and under which names the ledger has them.

In: what trials ask for, and the machines that Ray has, again and again. Out: the same, counted in the books from when
they are first seen with room for a trial until they are gone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from raybench.errors import ExperimentError
from raybench.records import ResourceRequest
from raybench.scheduling.resources import Node, Share, count_workers, fit, held_share, is_there, nodes
from raybench.spending import Books, Machine

SHORT_ID: Final = 6
"""Digits of a node's id that tell machines of one host name apart."""
DOUBT_SECONDS: Final = 120
"""How long Ray may take to notice the loss of a machine that gave no answer; one that it still has then is there."""


class Roster:
    """Counts machines in the books as they come and go.

    Args:
        books: of the session.
        request: what the experiment asks for each trial, from which its least share follows until `share` is set.
        usd_per_hour: by instance type.
        ask: for the machines that Ray has, now.
        answers: whether Ray's process on a machine takes connections.
        clock: seconds; only differences count.

    """

    def __init__(
        self,
        books: Books,
        *,
        request: ResourceRequest,
        usd_per_hour: Mapping[str, float],
        ask: Callable[[], Sequence[Node]] = nodes,
        answers: Callable[[Node], bool] = is_there,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.share: Share | None = None
        """The least that a trial holds; None: not settled yet."""
        self._books = books
        self._request = request
        self._usd_per_hour = usd_per_hour
        self._ask = ask
        self._answers = answers
        self._clock = clock
        self._machines: dict[str, Node] = {}
        """Those that were ever counted, by Ray's id."""
        self._names: dict[str, str] = {}
        self._doubted: dict[str, float] = {}
        """Machines that gave no answer though Ray has them still, and since when, by Ray's id."""

    def machines(self) -> Sequence[Node]:
        """Return the machines that Ray has, and count those that have room for a trial, until they are gone."""
        found = self._ask()
        there = {each.node_id for each in found}
        for node_id in self._machines.keys() - there:
            self._books.remove_machine(self._names[node_id])
            self._doubted.pop(node_id, None)
        for node_id in [each for each, since in self._doubted.items() if self._clock() - since > DOUBT_SECONDS]:
            del self._doubted[node_id]
            self._books.restore_machine(self._names[node_id])
        share = self.share or self._usual_share(found)
        for each in found:
            if share is not None and each.node_id not in self._machines and count_workers(share, [each]):
                self._count(each, share)
        return found

    def host_of(self, node_id: str) -> str | None:
        """Return the name of a machine; None where it is not counted."""
        return self._names.get(node_id)

    def only(self) -> str | None:
        """Return Ray's id of the machine where there is one alone."""
        return next(iter(self._machines)) if len(self._machines) == 1 else None

    def held(self, share: Share, node_id: str) -> float:
        """Return the part of a counted machine, 0 to 1, that a worker of that share holds."""
        return held_share(share, self._machines[node_id])

    def places(self, most: int) -> dict[str, int]:
        """Return how many workers of at most so many trials fit on each machine, by name; as a rule a trial has one."""
        share = self._settled()
        counted: dict[str, int] = {}
        most *= share.workers
        for node_id, name in self._names.items():
            counted[name] = min(count_workers(share, [self._machines[node_id]]), most - sum(counted.values()))
        return counted

    def shares(self) -> dict[str, float]:
        """Return what a worker holds of each machine, by name."""
        return {name: self.held(self._settled(), node_id) for node_id, name in self._names.items()}

    def is_there(self, node_id: str) -> bool:
        """Return whether a machine is still there; one that is not costs nothing any more.

        One that gives no answer is taken for lost before Ray knows of it, and counted again, with all its time, where
        Ray has it still after `DOUBT_SECONDS`.
        """
        found = {each.node_id: each for each in self.machines()}
        if node_id not in found:
            return False
        if self._answers(found[node_id]):
            return True
        if node_id in self._names:
            self._books.remove_machine(self._names[node_id])
            self._doubted.setdefault(node_id, self._clock())
        return False

    def _count(self, machine: Node, share: Share) -> None:
        taken = machine.host in self._names.values() or self._books.has_gone(machine.host)
        name = f"{machine.host} {machine.node_id[:SHORT_ID]}" if taken else machine.host
        self._machines[machine.node_id] = machine
        self._names[machine.node_id] = name
        price = self._usd_per_hour.get(machine.instance_type or "")
        self._books.add_machine(
            Machine(node=name, instance_type=machine.instance_type, usd_per_hour=price),
            places=count_workers(share, [machine]),
            share=held_share(share, machine),
        )

    def _usual_share(self, machines: Sequence[Node]) -> Share | None:
        """Return what a trial gets before anything is measured; None where no machine has room for one yet."""
        try:
            return fit(self._request, machines)
        except ExperimentError:
            return None

    def _settled(self) -> Share:
        if self.share is None:
            raise RuntimeError("what a trial gets is settled first")
        return self.share
