"""Watches the head of a cluster that this process has joined, in a thread of its own.

In: where the head listens. Out: a notice when it stops answering, and the end of the process where it does not come
back. The main thread can do neither: it waits inside Ray for the head, and after a minute Ray ends the process in its
own words. What trials have finished is in the run directory by then, so nothing is lost that way.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NoReturn, Self

from rich.console import Console

from raybench.scheduling.connections import accepts, host_and_port

LOOK_SECONDS: Final = 2.0
"""Between two looks."""
TELL_SECONDS: Final = 6.0
"""Of silence, before it is told."""
GONE_SECONDS: Final = 45.0
"""Of silence, before the run ends: Ray itself waits for 60, in which a head that is started anew can come back."""
LAST_SECONDS: Final = 5.0
"""What the last entries of the ledger may take to write."""
EXIT_STATUS: Final = 2
"""As of every error that a user can act on."""


def end_process(text: str, last: Callable[[], None]) -> NoReturn:
    """Write what is left to write, say what happened, and end this process without Ray, which would not let it end."""
    writing = threading.Thread(target=last, daemon=True)
    writing.start()
    writing.join(LAST_SECONDS)
    Console(stderr=True).show_cursor()
    sys.stderr.write(f"\nraybench: {text}\n")
    sys.stderr.flush()
    os._exit(EXIT_STATUS)


class HeadWatch:
    """A thread that begins with `follow` and ends with the `with` block.

    Args:
        tell: is told in words, from that thread, that the head is silent, or answers again.
        end: is called, from that thread, with what happened, when it is gone for good.
        answers: whether a host takes connections at a port.
        clock: seconds; only differences count.
        look_seconds: between two looks.

    """

    def __init__(
        self,
        *,
        tell: Callable[[str], None],
        end: Callable[[str], None],
        answers: Callable[[str, int], bool] = accepts,
        clock: Callable[[], float] = time.monotonic,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._tell = tell
        self._end = end
        self._answers = answers
        self._clock = clock
        self._look_seconds = look_seconds
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Do nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End the thread."""
        del kind, error, where
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def follow(self, address: str) -> None:
        """Watch the head at `HOST:PORT` from now on."""
        self._thread = threading.Thread(target=self._watch, args=(address,), name="head watch", daemon=True)
        self._thread.start()

    def _watch(self, address: str) -> None:
        host, port = host_and_port(address)
        heard, told = self._clock(), False
        while not self._over.wait(self._look_seconds):
            if self._answers(host, port):
                heard = self._clock()
                if told:
                    self._tell(f"The head of the cluster at {address} answers again")
                    told = False
                continue
            silent = self._clock() - heard
            if silent > GONE_SECONDS:
                self._end(
                    f"the head of the cluster at {address} is gone; what was finished is kept: once "
                    "a head is there again, run it again to go on"
                )
                return
            if silent > TELL_SECONDS and not told:
                self._tell(
                    f"The head of the cluster at {address} does not answer; the run ends if that lasts for "
                    f"{GONE_SECONDS:.0f} s"
                )
                told = True
