"""Epochs and scores for TensorBoard, MLflow or W&B, by Ray's own callbacks, where a run is asked for them.

In: the reports of trials, which hold objects that Ray's callbacks know nothing of. Out: for each epoch the numbers of
its record, and for each trial that ended its test scores, beside what the trial is: its configuration and seed.

Where they go: RUN/trackers/TRIAL for TensorBoard and W&B's own files; for MLflow and W&B where their own environment
variables say (MLFLOW_TRACKING_URI, WANDB_MODE, WANDB_API_KEY), in an experiment or project of the experiment's name.
What fails there is told once and ends no trial.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.logger import LoggerCallback, TBXLoggerCallback

from raybench.errors import InputError
from raybench.mirror import publish_all
from raybench.records import Status, Trial
from raybench.results import read_trial
from raybench.scheduling.driver import Problems
from raybench.scheduling.trainable import ENDED, EPOCH
from raybench.scheduling.unsaved import Unsaved
from raybench.trials import first_row

PACKAGES: Final[dict[str, str]] = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""What a tracker needs to be installed."""
SCORES: Final = ("test_loss", "test_accuracy", "test_balanced_accuracy", "test_macro_f1", "train_seconds")
"""Of a trial that ended."""
PARAMETERS: Final = ("dataset", "train_size", "model", "weights", "strategy", "augmentation", "seed")


@dataclass(frozen=True, kw_only=True)
class LoggedTrial:
    """What Ray's callbacks ask of a trial."""

    trial_id: str
    config: Mapping[str, Any]
    """What the trial is: its configuration and seed."""
    local_path: str
    """Folder for the tracker's own files."""
    experiment_dir_name: str
    """Name of the experiment."""

    def __hash__(self) -> int:
        """Return the same for the same trial: callbacks keep their state by it."""
        return hash(self.trial_id)

    def __str__(self) -> str:
        return " ".join(str(self.config[name]) for name in PARAMETERS if name != "augmentation")

    @property
    def evaluated_params(self) -> Mapping[str, Any]:
        """What TensorBoard shows as hyperparameters."""
        return self.config

    def init_local_path(self) -> None:
        """Make the folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


class Trackers(Unsaved, Callback):
    """Hands reports to Ray's callbacks as numbers.

    Args:
        names: of `PACKAGES`.
        experiment: its name.
        run_dir: of the run.
        trials: by id.
        problems: where what goes wrong is kept.

    Raises:
        InputError: a tracker's package is not installed.

    """

    def __init__(
        self, names: Sequence[str], *, experiment: str, run_dir: Path, trials: Mapping[str, Trial], problems: Problems
    ) -> None:
        check_trackers(names)
        self._names = names
        self._experiment = experiment
        self._run_dir = run_dir
        self._trials = trials
        self._problems = problems
        self._loggers: list[Any] = []
        self._open: dict[str, LoggedTrial] = {}
        """Trials that are being logged, by id."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Log during a `with` block; W&B may still be sending at its end, which is waited for."""
        for name in self._names:
            with self._caught(name):
                logger = LOGGERS[name](self._experiment)
                logger.setup()
                self._loggers.append(logger)
        try:
            yield
        finally:
            for shown in tuple(self._open.values()):  # which the run leaves unfinished
                self._end(shown, failed=False)
            for logger in self._loggers:
                with self._caught(type(logger).__name__):
                    logger.on_experiment_end([])

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Tell of a trial that begins, or goes on."""
        del iteration, trials, info
        shown = self._shown(trial)
        shown.init_local_path()  # W&B's process works there, and does not make it
        self._open[shown.trial_id] = shown
        self._each(lambda logger: logger.log_trial_start(shown))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, Any], **info: object
    ) -> None:
        """Tell of an epoch, or of a trial's scores and its end."""
        del iteration, trials, info
        shown = self._shown(trial)
        if EPOCH in result:
            record = asdict(result[EPOCH].record)
            numbers = {name: value for name, value in record.items() if name != "trial_id"}
            self._log(shown, numbers, record["epoch"])
        elif ENDED in result:
            row = read_trial(self._run_dir, shown.trial_id)
            if row is not None and row.test_accuracy is not None:
                numbers = {name: value for name in SCORES if (value := getattr(row, name)) is not None}
                self._log(shown, numbers, row.epochs_run or 0)
            self._end(shown, failed=result[ENDED].status is Status.FAILED)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Tell of a trial whose worker was lost once more than allowed."""
        del iteration, trials, info
        self._end(self._shown(trial), failed=True)

    def _log(self, shown: LoggedTrial, numbers: Mapping[str, float], epoch: int) -> None:
        result = {**numbers, "training_iteration": epoch}
        self._each(lambda logger: logger.log_trial_result(epoch, shown, dict(result)))

    def _each(self, call: Callable[[Any], object]) -> None:
        for logger in self._loggers:
            with self._caught(type(logger).__name__):
                call(logger)

    def _end(self, shown: LoggedTrial, *, failed: bool) -> None:
        """Let trackers close a trial; store what they wrote, where the run directory is in an object store."""
        self._open.pop(shown.trial_id, None)
        self._each(lambda logger: logger.log_trial_end(shown, failed=failed))
        with self._caught("the object store"):
            publish_all(Path(shown.local_path))

    def _caught(self, name: str) -> Any:  # noqa: ANN401 - a context manager of `Problems`
        return self._problems.caught(f"{name} was not told everything")

    def _shown(self, trial: TuneTrial) -> LoggedTrial:
        trial_id = str(trial.config["trial"])
        row = first_row(self._trials[trial_id], Status.UNFINISHED)
        return LoggedTrial(
            trial_id=trial_id,
            config={name: getattr(row, name) for name in PARAMETERS},
            local_path=str(self._run_dir / "trackers" / trial_id),
            experiment_dir_name=self._experiment,
        )


LOGGERS: Final[Mapping[str, Callable[[str], LoggerCallback]]] = {
    "tensorboard": lambda _: TBXLoggerCallback(),  # type: ignore[no-untyped-call]
    "mlflow": lambda name: MLflowLoggerCallback(experiment_name=name),
    "wandb": lambda name: WandbLoggerCallback(project=name),
}
"""By name, made for an experiment."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise InputError where a tracker is not known, or what it needs is not installed."""
    for name in names:
        if name not in PACKAGES:
            raise InputError(f"--log-to: {name!r} is not known; give {', '.join(PACKAGES)}")
        if find_spec(PACKAGES[name]) is None:
            raise InputError(f"--log-to: {name} needs a package that is not installed; pip install {PACKAGES[name]}")
