"""The embedded experiment: what anybody sees first, and what its pretrained weights are worth."""

import os
from pathlib import Path

import pandas as pd
import pytest

import raybench
from raybench.choices import processor_name
from raybench.experiment import load_experiment
from raybench.manifest import read_manifest
from raybench.runner import embedded_experiment

pytestmark = pytest.mark.minutes

SIZES = (100, 1197)
"""Of training sets: two of the experiment's three."""


def test_it_compares_eight_configurations_on_three_sizes_with_three_seeds() -> None:
    experiment = load_experiment(embedded_experiment())
    configurations = len(experiment.models) * len(experiment.weights) * len(experiment.strategies)
    assert configurations == 8
    assert [len(dataset.train_sizes) for dataset in experiment.datasets] == [3]
    assert len(experiment.seeds) == 3
    assert experiment.training.epochs >= 10
    assert experiment.asha_settings() is None, "no seed of so short a trial is to be cut short"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("quickstart") / "run"
    overrides = ["strategies=[linear-probe]", "datasets[0].train_sizes=[100, all]"]
    raybench.run(run_dir=run_dir, overrides=overrides, quiet=True)
    return run_dir


@pytest.fixture(scope="module")
def probes(run_dir: Path) -> pd.DataFrame:
    return raybench.rank(run_dir)


@pytest.mark.timeout(600)
def test_how_models_are_computed_is_measured_first_and_kept(run_dir: Path) -> None:
    chosen = read_manifest(run_dir).chosen
    assert chosen.measured_on == processor_name()
    assert chosen.cpu_per_trial is not None
    assert 1 <= chosen.cpu_per_trial <= (os.cpu_count() or 1)
    steps = chosen.steps[processor_name()]
    assert set(steps) == {"resnet8, 16 px, batch 32, auto", "resnet20, 16 px, batch 32, auto"}
    assert all(step.images_per_second > 0 for step in steps.values())


@pytest.mark.timeout(600)
def test_a_probe_of_pretrained_features_beats_one_of_random_features_by_more_than_their_intervals(
    probes: pd.DataFrame,
) -> None:
    assert len(probes) == 2 * 2 * len(SIZES)
    packaged, random = (
        probes[probes["weights"] == weights].set_index(["train_size", "model"]).sort_index()
        for weights in ("packaged", "random")
    )
    assert len(packaged) == len(random) == 2 * len(SIZES)
    assert (packaged["test_accuracy_low"] > random["test_accuracy_high"]).all()


def test_the_best_probe_of_the_largest_size_is_far_from_chance(probes: pd.DataFrame) -> None:
    largest = probes[probes["train_size"] == SIZES[-1]]
    assert largest["test_accuracy"].max() > 0.7
    assert largest["pick"].sum() == 1
