"""The embedded experiment: what anybody sees first, and what its pretrained weights are worth."""

import pandas as pd
import pytest

import raybench
from raybench.experiment import load_experiment
from raybench.runner import embedded_experiment


def test_it_compares_eight_configurations_on_three_sizes_with_three_seeds() -> None:
    experiment = load_experiment(embedded_experiment())
    configurations = len(experiment.models) * len(experiment.weights) * len(experiment.strategies)
    assert configurations == 8
    assert [len(dataset.train_sizes) for dataset in experiment.datasets] == [3]
    assert len(experiment.seeds) == 3
    assert experiment.training.epochs >= 10
    assert experiment.asha_settings() is None, "no seed of so short a trial is to be cut short"


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    run = raybench.run(
        run_dir=tmp_path_factory.mktemp("quickstart") / "run", overrides=["strategies=[linear-probe]"], quiet=True
    )
    return raybench.rank(run.run_dir)


@pytest.mark.timeout(600)
def test_a_probe_of_pretrained_features_beats_one_of_random_features_by_more_than_their_intervals(
    probes: pd.DataFrame,
) -> None:
    assert len(probes) == 2 * 2 * 3
    packaged, random = (
        probes[probes["weights"] == weights].set_index(["train_size", "model"]).sort_index()
        for weights in ("packaged", "random")
    )
    assert len(packaged) == len(random) == 6
    assert (packaged["test_accuracy_low"] > random["test_accuracy_high"]).all()


def test_the_best_probe_of_the_largest_size_is_far_from_chance(probes: pd.DataFrame) -> None:
    largest = probes[probes["train_size"] == 1197]
    assert largest["test_accuracy"].max() > 0.7
    assert largest["pick"].sum() == 1
