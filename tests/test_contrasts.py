"""Differences of configurations: the same wherever they are asked for, and as wide as they should be."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from raybench.contrasts import Contrasts
from raybench.gains import average_gains, gains
from raybench.stats import Scores
from raybench.ties import compare
from raybench.value import value
from tests.known_truth import drawn_scores, drawn_study

SIZES = (100, 200, 400)
CHOICES = ("linear-probe", "fine-tune")
MODELS = ("resnet8", "resnet20")
KEYS = ["train_size", "model", "strategy"]


def results(seeds: int = 2) -> pd.DataFrame:
    """Return trials of four configurations at three sizes."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "dataset": "d",
            "train_size": size,
            "model": model,
            "weights": "random",
            "strategy": strategy,
            "seed": seed,
            "status": "completed",
            "val_loss": 0.5,
            "val_accuracy": 0.7,
            "test_accuracy": 0.6 + 0.05 * row + 0.1 * column + 0.02 * depth + rng.normal(0, 0.01),
            "train_seconds": 10.0 * (1 + row) * (1 + column) * (1 + depth),
            "epochs_run": 5,
        }
        for row, size in enumerate(SIZES)
        for depth, model in enumerate(MODELS)
        for column, strategy in enumerate(CHOICES)
        for seed in range(seeds)
    )


def scores_at(table: pd.DataFrame, size: int) -> dict[tuple[str, str], Scores]:
    groups = table[table["train_size"] == size].groupby(["model", "strategy"])
    return {
        (str(model), str(strategy)): Scores(
            seeds=tuple(rows["seed"]), accuracies=rows["test_accuracy"].to_numpy(), images=300
        )
        for (model, strategy), rows in groups
    }


def test_a_gain_has_the_interval_that_a_ranking_gives_it() -> None:
    table = results()
    rows = gains(table, test_images=300).query("kind == 'fine-tuning'").set_index(["train_size", "model"])
    for size in SIZES:
        scores = scores_at(table, size)
        names = list(scores)
        compared = compare(list(scores.values()))
        for model in MODELS:
            ranked = compared.difference(names.index((model, "fine-tune")), names.index((model, "linear-probe")))
            assert rows.loc[(size, model), "low"] == pytest.approx(ranked.low)
            assert rows.loc[(size, model), "high"] == pytest.approx(ranked.high)


def test_a_step_along_the_frontier_has_the_interval_of_the_gain() -> None:
    table = results()
    found = gains(table, test_images=300)
    checked = 0
    for across_sizes in (False, True):
        steps = value(table, test_images=300, across_sizes=across_sizes).query("on_frontier")
        assert steps["points"].notna().any()
        for _, group in steps.groupby("comparison"):
            rows = group.to_dict("records")
            for before, after in pairwise(rows):
                changed = [name for name in KEYS if before[name] != after[name]]
                pair = found[(found[KEYS] == [before[name] for name in KEYS]).all(axis=1)]
                pair = pair[pair["after"] == str(after[changed[0]])]
                if len(changed) == 1 and len(pair) == 1:
                    assert after["points_low"] == pytest.approx(100 * pair["low"].iloc[0])
                    assert after["points_high"] == pytest.approx(100 * pair["high"].iloc[0])
                    checked += 1
    assert checked >= 6


def test_an_accuracy_has_the_same_interval_whether_sizes_are_compared_or_not() -> None:
    alone, across = (
        value(results(), test_images=300, across_sizes=across).set_index(KEYS).sort_index() for across in (False, True)
    )
    columns = ["accuracy_low", "accuracy_high"]
    pd.testing.assert_frame_equal(alone[columns], across[columns])


def test_averages_of_two_seeds_are_not_as_sure_or_unsure_as_two_numbers_happen_to_agree() -> None:
    """Two seeds alone would make one average's interval many times as wide as another's."""
    rows = average_gains(results(), test_images=300)
    widths = (rows["high"] - rows["low"]).astype(float)
    assert len(rows) == 8
    assert widths.max() < 3 * widths.min()


def groups_of(configurations: int, sizes: int) -> list[list[tuple[int, int]]]:
    """Pairs of two choices at each size, and of a size with the one before."""
    found = []
    for size in range(sizes):
        first = size * configurations
        found.append([(first + place + 1, first + place) for place in range(0, configurations, 2)])
        found.append([(first + place, first + place - 2) for place in (2, 3)])
        if size:
            found.append([(first + place, first - configurations + place) for place in range(configurations)])
    return found


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_of_pairs_and_of_averages_cover_as_often_as_they_say(seeds: int) -> None:
    configurations, sizes = 4, 3
    of_averages, of_pairs = [], []
    for repeat in range(80):
        rng = np.random.default_rng([seeds, repeat])
        study = drawn_study(rng, configurations)
        truths = [np.clip(rng.normal(0.75 + 0.04 * size, 0.03, configurations), 0.3, 0.98) for size in range(sizes)]
        scores = [each for truth in truths for each in drawn_scores(rng, truth, seeds, study)]
        truth = np.concatenate(truths)
        contrasts = Contrasts(
            scores=scores, sizes=np.repeat(SIZES, configurations).tolist(), complete=[True] * len(scores)
        )
        groups = groups_of(configurations, sizes)
        for pairs, mean in zip(groups, contrasts.mean_differences(groups), strict=True):
            true = np.mean([truth[a] - truth[b] for a, b in pairs])
            of_averages.append(mean.low <= true <= mean.high)
        for a, b in (pair for pairs in groups for pair in pairs):
            pair = contrasts.difference(a, b)
            of_pairs.append(pair.low <= truth[a] - truth[b] <= pair.high)
    assert 0.93 <= np.mean(of_pairs) <= 0.98
    assert 0.93 <= np.mean(of_averages) <= 0.99


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_size_is_one_size(missing: object) -> None:
    table = results().query("train_size == 100")
    scores = list(scores_at(table, 100).values())
    known, unknown = (
        Contrasts(scores=scores, sizes=[size] * len(scores), complete=[True] * len(scores)) for size in (100, missing)
    )
    assert unknown.difference(1, 0) == known.difference(1, 0)
