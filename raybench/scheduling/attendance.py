"""Which machines trials run on, told as they come and go.

In: the machines that Ray has, again and again. Out: the same, and notices: of a cluster's machines their names, whoever
comes later or goes, and where a newcomer is of a kind that was not there when what trials take was measured. No trial
waits for a measurement then, so what its trials cost is less well known, and their user should know.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from raybench.events import Notice
from raybench.formats import joined, number_of
from raybench.scheduling.resources import Node, Share, count_workers

MOST_NAMES: Final = 6


class Attendance:
    """Asks for machines, and tells of them.

    Args:
        machines: that Ray has, now.
        share: what a trial holds at least: who has no room for it does not count.
        is_joined: whether they are a cluster's: then a single one is named, too.
        measured: kinds of accelerator on which what trials take was measured; None: nobody needs to know.
        tell: is told.

    """

    def __init__(
        self,
        machines: Callable[[], Sequence[Node]],
        *,
        share: Share,
        is_joined: bool,
        measured: Collection[str] | None,
        tell: Callable[[Notice], None],
    ) -> None:
        self._machines = machines
        self._share = share
        self._is_joined = is_joined
        self._measured = None if measured is None else set(measured)
        self._tell = tell
        self._there: dict[str, str] | None = None
        """Host names by Ray's ids."""

    def __call__(self) -> Sequence[Node]:
        """Return the machines."""
        found = self._machines()
        usable = [machine for machine in found if count_workers(self._share, [machine])]
        now = {machine.node_id: machine.host for machine in usable}
        if self._there is None:
            if len(now) > 1 or (now and self._is_joined):
                self._say(f"{number_of(len(now), 'machine')}: {_names(now.values())}")
        else:
            came = [host for node_id, host in now.items() if node_id not in self._there]
            went = [host for node_id, host in self._there.items() if node_id not in now]
            if came:
                self._say(f"Came: {_names(came)}; {_takers(len(now))} trials now")
            if went:
                self._say(f"Went away: {_names(went)}; {_takers(len(now))} trials now")
        self._there = now
        self._tell_of_kinds(usable)
        return found

    def _tell_of_kinds(self, machines: Sequence[Node]) -> None:
        if self._measured is None:
            return
        for kind in sorted({machine.accelerator for machine in machines if machine.accelerator} - self._measured):
            self._measured.add(kind)
            self._say(
                f"Nobody has measured what trials take alone on {kind}, which came after the start: their cost is what "
                "they hold of it for as long as they train. Interrupted and run again, the rest is measured"
            )

    def _say(self, text: str) -> None:
        self._tell(Notice(text=text, lasting=True))


def _takers(count: int) -> str:
    return f"{number_of(count, 'machine')} {'takes' if count == 1 else 'take'}"


def _names(hosts: Collection[str]) -> str:
    """Return the names of some machines, each once, and how many more there are."""
    return joined(sorted(set(hosts)), most=MOST_NAMES)
