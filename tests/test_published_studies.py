"""The published figures of two studies, ranked by us."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import raybench
from raybench.cli import app
from raybench.foreign import Kind, load_source
from raybench.ranking import RANK_COLUMNS, rank

DATA = Path(__file__).parent / "data"
FIRST_STUDY = DATA / "resnet_cost_performance.csv"
SECOND_STUDY = DATA / "alexnet_vs_resnet_history.csv"


def ranks_beside_published(train_size: int) -> list[tuple[int, int]]:
    published = pd.read_csv(FIRST_STUDY)
    names = {(False, False): "plain", (True, False): "fine_tuned", (False, True): "augmented"}
    pairs = zip(published["fine_tuned"], published["augmented"], strict=True)
    published["strategy"] = [names.get(pair, "fine_tuned+augmented") for pair in pairs]
    ranking = rank(load_source(FIRST_STUDY).results)
    both = ranking.merge(published[["train_size", "model", "strategy", "published_rank"]], validate="one_to_one")
    both = both[both["train_size"] == train_size]
    return sorted(zip(both["published_rank"], both["rank"], strict=True))


@pytest.mark.parametrize("train_size", [833, 2280])
def test_ranks_of_the_first_study_are_the_published_ones(train_size: int) -> None:
    assert ranks_beside_published(train_size) == [(place, place) for place in range(1, 9)]


def test_the_one_pair_that_departs_from_the_published_rule_is_put_in_order() -> None:
    expected = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 5), (7, 7), (8, 8)]
    assert ranks_beside_published(19104) == expected


def test_ranking_of_the_first_study_has_exactly_the_promised_columns() -> None:
    ranking = rank(load_source(FIRST_STUDY).results)
    assert list(ranking.columns) == RANK_COLUMNS
    assert ranking["test_accuracy_low"].isna().all(), "one seed and no number of images allow no interval"
    assert ranking["tie_group"].isna().all()


def test_ranks_1_to_4_of_833_images_cannot_be_told_apart_on_its_test_split() -> None:
    done = CliRunner().invoke(app, ["rank", str(FIRST_STUDY), "--test-images", "166"])
    assert done.exit_code == 0
    text = " ".join(done.output.split())
    assert (
        "Cannot be told apart from it: resnet50 fine_tuned+augmented (0.8012); likewise resnet18 fine_tuned, "
        "resnet18 fine_tuned+augmented, resnet18 plain and resnet18 augmented."
    ) in text
    ranking = raybench.rank(FIRST_STUDY, test_images=166)
    assert ranking[ranking["train_size"] == 833]["tie_group"].to_list() == [1] * 6 + [2] * 2
    named = raybench.rank(FIRST_STUDY, test_images={"resnet_cost_performance": 166})
    pd.testing.assert_frame_equal(named, ranking)


def test_history_of_the_second_study_gives_its_best_val_accuracies() -> None:
    source = load_source(SECOND_STUDY)
    ranking = rank(source.results)
    best = {(row.model, row.strategy): row.val_accuracy for row in ranking.itertuples()}
    published = {
        ("alexnet", "fine-tune"): 0.901961,
        ("alexnet", "linear-probe"): 0.947712,
        ("resnet18", "fine-tune"): 0.947712,
        ("resnet18", "linear-probe"): 0.954248,
    }
    assert source.kind is Kind.HISTORY
    assert best == pytest.approx(published, abs=5e-5)
    assert ranking["model"].iloc[0] == "resnet18"
    assert ranking["strategy"].iloc[0] == "linear-probe"


def test_history_of_the_second_study_gives_the_epoch_with_the_lowest_val_loss() -> None:
    results = load_source(SECOND_STUDY).results.set_index(["model", "strategy"])
    assert results["best_epoch"].to_dict() == {
        ("alexnet", "fine-tune"): 7,
        ("alexnet", "linear-probe"): 3,
        ("resnet18", "fine-tune"): 1,
        ("resnet18", "linear-probe"): 12,
    }
    assert results.loc[("alexnet", "fine-tune"), "val_loss"] == pytest.approx(0.2749)
