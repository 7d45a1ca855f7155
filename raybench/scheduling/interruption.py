"""How a run is ended before its last trial: by Ctrl-C, by SIGTERM, by storage that is full or gone, by Ray's own end.

In: signals, and what the driver knows. Out: trials that leave with their epoch, or the end of Ray Tune at once.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray.tune import Stopper

from raybench.errors import RaybenchError
from raybench.events import Event, Notice
from raybench.scheduling.driver import Storage

GRACE_SECONDS = 20
"""Between SIGTERM and the end, for trials to reach the end of an epoch: Kubernetes kills after 30 s, AWS takes a spot
machine back after 120 s."""
PAUSE_SECONDS = 1.0
"""How often trials are told again that they are to pause: whom they ask may have been started anew."""


class Interruption(Stopper):
    """Ends the run when somebody asks for it; Ray Tune looks here several times a second.

    The first SIGINT lets every trial finish its epoch and keep it. So does SIGTERM, for `GRACE_SECONDS`. Storage that
    cannot be written to ends it likewise, though nobody asked.
    """

    def __init__(
        self,
        tell: Callable[[Event], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        storage: Storage | None = None,
    ) -> None:
        self.requested = False
        self._storage = storage or Storage()
        self.at_once = False
        """Whether Ray ends with the run, so that nobody has to wait until Ray Tune has cleaned up."""
        self.pause: Callable[[], object] | None = None
        """Lets all trials leave with the epoch that they are in; None: they cannot."""
        self.lost: Callable[[], str | None] = lambda: None
        """Returns the name of a process of Ray that has ended."""
        self._tell = tell
        self._clock = clock
        self._ends_at = math.inf
        self._paused_at = -math.inf
        self._insisted = False
        """Whether there was a second SIGINT."""

    @property
    def ends(self) -> bool:
        """Whether nothing is to start any more."""
        return self.requested or self._storage.problem is not None

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Never end a single trial: it ends itself."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Return whether the run is to end now, whatever trials do; before that they are asked to leave.

        Raises:
            KeyboardInterrupt: it is, and Ray Tune need not even clean up, which takes it up to 15 s.
            RaybenchError: Ray is gone.

        """
        lost = self.lost()
        if lost is not None:
            self.pause = None
            raise RaybenchError(f"{lost}, a process of Ray, has ended")
        if self._insisted:
            raise KeyboardInterrupt
        if not self.ends:
            return False
        now = self._clock()
        if self.pause is not None and now < self._ends_at:
            if now - self._paused_at >= PAUSE_SECONDS:
                self.pause()
                if math.isinf(self._paused_at):
                    self._tell(Notice(text=self._text(now), lasting=True, ends_run=True))
                self._paused_at = now
            return False
        if self.at_once:
            raise KeyboardInterrupt
        return True

    def _text(self, now: float) -> str:
        if self._storage.problem is not None:
            return f"{self._storage.problem}; trials finish their epochs, then the run ends"
        if math.isinf(self._ends_at):
            return "Trials finish their epochs, then the run ends; Ctrl-C again ends it now"
        return f"Trials finish their epochs, then the run ends, in {self._ends_at - now:.0f} s at the latest"

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Let SIGINT end the block at once, or with its end where Ray, as it starts, does not let it through.

        Raises:
            KeyboardInterrupt: there was one.

        """
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
            yield
            return

        def hear(number: int, frame: FrameType | None) -> None:
            self.requested = True
            signal.default_int_handler(number, frame)

        signal.signal(signal.SIGINT, hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self.requested:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the first SIGINT or SIGTERM as the wish to end; a second one acts as it would without us.

        Outside the main thread, where Python hears no signals, nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        heard: set[int] = set()

        def hear(number: int, frame: FrameType | None) -> None:
            handler = before[signal.Signals(number)]
            if number not in heard:
                heard.add(number)
                self.requested = True
                if number == signal.SIGTERM:
                    self._ends_at = self._clock() + GRACE_SECONDS
                return
            self._insisted = number == signal.SIGINT  # where Ray does not let it through, `stop_all` sees it
            if callable(handler):
                handler(number, frame)
            else:
                signal.signal(number, handler)
                signal.raise_signal(number)

        for number in before:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def ray_failures(interruption: Interruption) -> Iterator[None]:
    """Turn what Ray Tune raises into one message; while it is being ended, it may well raise."""
    try:
        yield
    except Exception as error:
        if not interruption.requested:
            lines = str(error).strip().splitlines() or [""]
            reason = lines[-1] if isinstance(error, RaybenchError) else f"{type(error).__name__}: {lines[-1]}"
            raise RaybenchError(
                f"Ray ended the run: {reason}; what was finished is kept: run it again to go on"
            ) from error
