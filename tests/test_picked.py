"""The network that a run advises to take along, from runs that nobody trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import raybench
from raybench.errors import RunError
from raybench.output import print_trial
from raybench.picked import PICK, chosen_trial
from raybench.records import Status, Trial
from tests.made_up_run import MadeUp

LUCKY_ON_TEST, BEST_ON_VAL, WORST = 0, 1, 2
"""Seeds."""
TWO_DATASETS = {
    "datasets": [
        {"name": name, "source": f"imagefolder:{name}", "image_size": 32, "train_sizes": [50]}
        for name in ("disc", "leaf")
    ]
}


def by_seed(trial: Trial) -> Mapping[str, Any]:
    return {
        LUCKY_ON_TEST: {"val_loss": 0.5, "test_accuracy": 1.0},
        BEST_ON_VAL: {"val_loss": 0.1},
        WORST: {"val_loss": 0.9},
    }[trial.seed]


def nothing_ended(_trial: Trial) -> None:
    return None


def test_pick_is_the_seed_with_the_lowest_val_loss_at_the_largest_size(tmp_path: Path) -> None:
    run_dir = MadeUp(changes=by_seed).write(tmp_path / "run")
    ranking = raybench.rank(run_dir)
    pick = ranking[ranking["pick"] & (ranking["train_size"] == ranking["train_size"].max())].iloc[0]
    trial = chosen_trial(run_dir, PICK)
    assert (trial.model.name, trial.strategy.name, trial.train_size) == (
        pick["model"],
        pick["strategy"],
        pick["train_size"],
    )
    assert trial.seed == BEST_ON_VAL


def test_where_the_largest_size_has_none_the_pick_is_of_the_largest_that_has(tmp_path: Path) -> None:
    def small_only(trial: Trial) -> Mapping[str, Any] | None:
        return by_seed(trial) if trial.train_size in (50, 200) else None

    run_dir = MadeUp(changes=small_only).write(tmp_path / "run")
    assert chosen_trial(run_dir, PICK).train_size == 200


def test_without_a_pick_it_is_said_why(tmp_path: Path) -> None:
    run_dir = MadeUp(changes=nothing_ended).write(tmp_path / "run")
    with pytest.raises(RunError, match=r"run: has no pick yet, since no configuration has completed; 'raybench show "):
        chosen_trial(run_dir, PICK)


def test_of_two_datasets_the_ids_of_both_picks_are_given(tmp_path: Path) -> None:
    run_dir = MadeUp(experiment=TWO_DATASETS).write(tmp_path / "run")
    with pytest.raises(RunError, match="each of its datasets has a pick; give ") as refused:
        chosen_trial(run_dir, PICK)
    said = str(refused.value).rpartition("give ")[2].removesuffix(" in its place").split(" or ")
    trials = [chosen_trial(run_dir, each.split(" ")[0]) for each in said]
    assert [f"{trial.trial_id} ({trial.dataset.name})" for trial in trials] == said
    assert {trial.dataset.name for trial in trials} == {"disc", "leaf"}


def test_an_id_still_means_that_trial(tmp_path: Path) -> None:
    run_dir = MadeUp().write(tmp_path / "run")
    rows = raybench.load_results(run_dir)
    for trial_id in rows.loc[rows["status"] == Status.COMPLETED, "trial_id"]:
        assert chosen_trial(run_dir, trial_id).trial_id == trial_id


def test_it_is_told_which_trial_the_pick_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = MadeUp().write(tmp_path / "run")
    print_trial(run_dir, PICK)
    trial = chosen_trial(run_dir, PICK)
    assert f"seed {trial.seed}, trial {trial.trial_id}" in capsys.readouterr().out
