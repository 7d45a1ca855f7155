"""The linear probe that several trials begin with: trained by the one that comes first, taken over by the others.

In: a trial with a `first_phase_id`, and its state once that phase has come to its end. Out: the same state for other
trials, in their names. It lies in the run directory, the head's tensors with the epochs as metadata; it is written
whole or not at all, and read without running code:

    RUN/checkpoints/FIRST_PHASE_ID.phase    safetensors
    RUN/checkpoints/FIRST_PHASE_ID.lock     held by the trial that trains it, freed by the kernel when its process ends

Only a phase that ended by its last epoch or its patience is shared; whoever waits for one that did not trains it then.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import safetensors
from filelock import FileLock, Timeout

from raybench.atomic import replacing
from raybench.mirror import bring
from raybench.records import Trial
from raybench.training.weight_files import write_tensors

LONGEST_WAIT_SECONDS: Final = 3600.0
"""After this a trial trains the phase itself: whoever was to may hang for ever."""
_LOOK_SECONDS: Final = 0.05
_MODEL: Final = "model"
"""The part of a state that is tensors."""
_UNREADABLE: Final = (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError)


class FirstPhase:
    """The first phase of one trial; made by `shared_first_phase`."""

    def __init__(self, run_dir: Path, trial: Trial, conditions: Mapping[str, Any]) -> None:
        self._trial = trial
        self._conditions = json.loads(json.dumps({**conditions, "first_phase_id": trial.first_phase_id}))
        self._path = run_dir / "checkpoints" / f"{trial.first_phase_id}.phase.safetensors"
        self._lock = FileLock(self._path.with_suffix(".lock"))

    def take_over(self, waiting: Callable[[], object] = lambda: None) -> dict[str, Any] | None:
        """Return the state at the phase's end, waiting while another trial trains it; None: train it here.

        `waiting` is called again and again meanwhile.
        """
        if self._trial.first_phase_id is None:
            return None
        give_up_at = time.monotonic() + LONGEST_WAIT_SECONDS
        bring(self._path)
        state = self._read()
        while state is None and time.monotonic() < give_up_at and not self._locked():
            waiting()
            time.sleep(_LOOK_SECONDS)
            state = self._read()
        # Once more: it may have been left between the last look and the lock.
        return state or self._read()

    def leave(self, state: Mapping[str, Any]) -> None:
        """Leave the state at the phase's end, as `Training.state_at_end_of_phase` gives it, to other trials."""
        if not self._lock.is_locked:
            return
        rest = {name: value for name, value in state.items() if name != _MODEL}
        metadata = {"state": json.dumps(rest), "conditions": json.dumps(self._conditions)}
        with replacing(self._path) as temporary:
            write_tensors(temporary, state[_MODEL], metadata)
        self.release()

    def release(self) -> None:
        """Let other trials train the phase, if it was not left to them."""
        if self._lock.is_locked:
            with suppress(OSError):
                Path(self._lock.lock_file).unlink()
            self._lock.release()

    def _locked(self) -> bool:
        """Return whether this trial may train the phase: nobody else does, or nobody can tell."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError):  # a file system without locks: trained by each, with the same numbers
            return True
        return True

    def _read(self) -> dict[str, Any] | None:
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if json.loads(metadata["conditions"]) != self._conditions:
                return None
            state: dict[str, Any] = json.loads(metadata["state"])
            history = [{**record, "trial_id": self._trial.trial_id} for record in state["history"]]
        except _UNREADABLE:
            return None
        return {**state, "history": history, _MODEL: tensors}


@contextmanager
def shared_first_phase(run_dir: Path, trial: Trial, conditions: Mapping[str, Any]) -> Iterator[FirstPhase]:
    """Yield the first phase of a trial; what was not left to others by the end of the block is free to be trained.

    Args:
        run_dir: of the run.
        trial: whose first phase it is.
        conditions: plain values: a phase that was trained under others has other seconds, or numbers, and is not
            taken over.

    """
    first_phase = FirstPhase(run_dir, trial, conditions)
    try:
        yield first_phase
    finally:
        first_phase.release()
