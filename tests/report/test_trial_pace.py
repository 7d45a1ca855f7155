"""What trials took against what had been measured of them, in runs that nobody trained."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raybench.choices import step_key
from raybench.quote import Quote, Range
from raybench.records import Status, Trial
from raybench.report.trial_pace import TrialPace, trial_pace
from raybench.results import write_trial
from raybench.runs import open_run
from raybench.trials import first_row, searches_of
from raybench.tries import FOLDER
from tests.made_up_run import MadeUp

QUOTE = Quote(
    made_at="",
    trials=0,
    places=2,
    early_stopping=False,
    wall_seconds=Range(low=1, high=2),
    machine_usd=None,
    lines=(),
    slowdown={},
)
ONE_SIZE = [{"name": "shapes", "source": "imagefolder:shapes", "image_size": 32}]


def pace_of(run_dir: Path, quote: Quote | None = QUOTE) -> TrialPace | None:
    run = open_run(run_dir)
    return trial_pace(run_dir, run.experiment, run.facts, run.trials, quote)


def test_seconds_of_completed_trials_are_held_against_those_alone_and_what_was_expected(tmp_path: Path) -> None:
    def slow(trial: Trial) -> Mapping[str, Any]:
        factor = {"resnet8": 2.0, "resnet20": 3.0}[trial.model.name]
        status = Status.STOPPED if trial.seed == 2 else Status.COMPLETED
        return {
            "standalone_seconds": 10.0,
            "train_seconds": 1000.0 if trial.seed == 2 else 10 * factor,
            "status": status,
        }

    run_dir = MadeUp(experiment={"datasets": ONE_SIZE}, changes=slow).write(tmp_path / "run")
    of_resnet8 = next(step_key(trial) for trial in open_run(run_dir).trials if trial.model.name == "resnet8")
    pace = pace_of(run_dir, replace(QUOTE, slowdown={of_resnet8: 1.5}))
    assert pace is not None
    assert (pace.ratio, pace.expected) == pytest.approx((2.5, 1.25))


def test_tries_of_learning_rates_count_as_trials_do(tmp_path: Path) -> None:
    experiment = {"datasets": ONE_SIZE, "training": {"epochs": 3, "learning_rate": "auto"}}
    run_dir = MadeUp(experiment=experiment, changes=lambda _: None).write(tmp_path / "run")
    run = open_run(run_dir)
    for search in searches_of(run.experiment, run.facts):
        for trial in search.tries:
            row = replace(first_row(trial, Status.COMPLETED), train_seconds=3.0, standalone_seconds=2.0)
            write_trial(run_dir / FOLDER, row, [], None)
    pace = pace_of(run_dir)
    assert pace is not None
    assert pace.ratio == pytest.approx(1.5)


def test_nothing_is_known_without_a_quote_its_slowdown_or_seconds_alone(made_up: Path, tmp_path: Path) -> None:
    assert pace_of(made_up) == TrialPace(ratio=1.0, expected=1.0)
    assert pace_of(made_up, None) is None
    assert pace_of(made_up, replace(QUOTE, slowdown=None)) is None
    unmeasured = MadeUp(changes=lambda _: {"standalone_seconds": None}).write(tmp_path / "unmeasured")
    assert pace_of(unmeasured) is None
