"""Machines that come while trials run, of a kind that was not there when what trials take was measured.

In: the machines that Ray has, again and again. Out: the same, and a notice of each such kind: no trial waits for a
measurement, so what its trials cost is less well known, and their user should know.
"""

from collections.abc import Callable, Collection, Sequence

from raybench.events import Notice
from raybench.scheduling.resources import Node


class Newcomers:
    """Asks for machines, and tells of the first one of each kind of accelerator that was not measured.

    Args:
        machines: that Ray has, now.
        measured: kinds on which what trials take was measured.
        tell: is told of others.

    """

    def __init__(
        self, machines: Callable[[], Sequence[Node]], *, measured: Collection[str], tell: Callable[[Notice], None]
    ) -> None:
        self._machines = machines
        self._known = set(measured)
        self._tell = tell

    def __call__(self) -> Sequence[Node]:
        """Return the machines."""
        found = self._machines()
        for kind in sorted({machine.accelerator for machine in found if machine.accelerator} - self._known):
            self._known.add(kind)
            self._tell(
                Notice(
                    text=(
                        f"A machine with {kind} came after the start, and nobody has measured what trials take there "
                        "alone: their cost is what they hold of it for as long as they train. Interrupted and run "
                        "again, the rest is measured"
                    ),
                    lasting=True,
                )
            )
        return found
