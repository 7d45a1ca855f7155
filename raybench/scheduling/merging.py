"""Joins the files of trials that ended while others run: statuses of trials in, larger files in the run directory out.

It happens beside the driver's own work, in one thread, a batch at a time; see `raybench.compaction`.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from raybench.compaction import BATCH, FINAL, FOLDERS, compact
from raybench.mirror import bring_all
from raybench.records import Status
from raybench.scheduling.driver import Problems
from raybench.scheduling.unsaved import Unsaved


class Merging(Unsaved, Callback):
    """Merges each time that so many more trials have ended.

    Args:
        run_dir: of the run.
        statuses: of the trials that ended, by id, as they become known.
        problems: where it is kept what went wrong: files that are not merged are read as well, only later.
        batch: trials of a merged file.

    """

    def __init__(
        self, run_dir: Path, *, statuses: Callable[[], Mapping[str, Status]], problems: Problems, batch: int = BATCH
    ) -> None:
        self._run_dir = run_dir
        self._statuses = statuses
        self._problems = problems
        self._batch = batch
        self._waiting: set[str] = set()
        """Trials that ended for good and are not merged yet."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raybench-merging")
        self._merge: Future[None] | None = None

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Merge, where enough trials have ended since the last time."""
        del iteration, trials, info
        trial_id = trial.config["trial"]
        if self._statuses().get(trial_id) in FINAL:
            self._waiting.add(trial_id)
        is_merging = self._merge is not None and not self._merge.done()
        if len(self._waiting) >= self._batch and not is_merging:
            ready, self._waiting = frozenset(self._waiting), set()
            self._merge = self._thread.submit(self._compact, ready)

    def finish(self) -> None:
        """Wait for what is being merged, and merge the rest, where that is worth it; no trial runs any more."""
        self._thread.shutdown()
        self._compact(frozenset(trial_id for trial_id, status in self._statuses().items() if status in FINAL))

    def _compact(self, ready: frozenset[str]) -> None:
        with self._problems.caught("files of ended trials could not be merged"):
            bring_all(self._run_dir, FOLDERS)
            compact(self._run_dir, ready)
