import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raybench.outcomes import outcome_of
from raybench.ranking import rank
from raybench.report.advice import notes, sentence


def trial(model: str, **columns: Any) -> dict[str, Any]:  # noqa: ANN401, any cell
    row = {"dataset": "digits", "train_size": 100, "model": model, "weights": "random", "strategy": "lp-ft"}
    return row | {"test_accuracy": 0.9, "val_accuracy": 0.9, "train_seconds": 140.0} | columns


def advice(*trials: dict[str, Any], **options: Any) -> str:  # noqa: ANN401, passed on
    return sentence(rank(pd.DataFrame(trials), **options))


def test_pick_is_named_with_accuracy_interval_and_cost() -> None:
    seeds = [
        trial("resnet8", seed=seed, test_accuracy=0.9 + seed / 100, standalone_cost_usd=0.0016) for seed in range(3)
    ]
    text = advice(*seeds, test_images=300)
    assert text.startswith("Pick for digits, 100 training images: resnet8 lp-ft, test accuracy 0.9100 (95 % interval ")
    assert "over 3 seeds), 2 min 20 s of training, $0.0016." in text


def test_one_seed_is_not_passed_off_as_more() -> None:
    assert "over test images only)" in advice(trial("a"), test_images=300)
    assert "(no interval), 2 min 20 s of training, cost unknown. How far chance" in advice(trial("a"))


def test_what_cannot_be_told_apart_is_named() -> None:
    close = [
        trial("a", test_accuracy=0.91, val_accuracy=0.95),
        trial("b", test_accuracy=0.90),
        trial("c", test_accuracy=0.2),
    ]
    text = advice(*close, test_images=300)
    assert text.endswith("Cannot be told apart from it: b lp-ft.")


def test_pick_that_is_not_first_on_test_is_compared_with_the_first() -> None:
    close = [trial("a", test_accuracy=0.91), trial("b", test_accuracy=0.90, val_accuracy=0.95), trial("c")]
    text = advice(*close, test_images=300)
    assert text.endswith("Cannot be told apart from it: a lp-ft (0.9100); likewise c lp-ft.")
    assert advice(*close[:2], test_images=300).endswith("Cannot be told apart from it: a lp-ft (0.9100).")


def test_pick_that_test_says_is_worse_is_said_to_be() -> None:
    text = advice(trial("a", test_accuracy=0.9), trial("b", test_accuracy=0.5, val_accuracy=0.95), test_images=300)
    assert text.endswith("a lp-ft scored higher on test, by more than chance explains.")


def test_pick_that_stands_apart_is_said_to() -> None:
    text = advice(trial("a"), trial("b", test_accuracy=0.2, val_accuracy=0.2), test_images=300)
    assert text.endswith("It stands apart from all others that completed.")
    assert "stands apart" not in advice(trial("a"), test_images=300)


def test_long_lists_are_counted() -> None:
    text = advice(*(trial(f"m{i}") for i in range(9)), test_images=300)
    assert text.endswith("m1 lp-ft, m2 lp-ft, m3 lp-ft and 5 more.")


def test_weights_are_named_where_they_differ() -> None:
    text = advice(trial("a", weights="packaged"), trial("a", test_accuracy=0.1, val_accuracy=0.1))
    assert "a lp-ft on packaged weights, test accuracy" in text


def test_nothing_complete_gives_no_pick() -> None:
    assert advice(trial("a", status="stopped")).startswith("No pick for digits, 100 training images: ")


def test_untuned_learning_rates_are_called_that() -> None:
    ranking = rank(pd.DataFrame([trial("a")]))
    assert sentence(ranking, untuned=True).endswith("Untuned: learning rates were fixed by hand.")
    assert "ntuned" not in sentence(ranking)


def test_pick_without_test_or_val_accuracy_says_what_it_rests_on() -> None:
    assert "val accuracy 0.9000 (no test accuracy)" in advice(trial("a", test_accuracy=None))
    assert "picked on test accuracy" in advice(trial("a", val_accuracy=None))


def test_table_without_dataset_size_and_time_still_reads_well() -> None:
    text = advice({"model": "a", "test_accuracy": 0.9})
    assert text.startswith("Pick: a, test accuracy 0.9000 (no interval), cost unknown.")


def test_intervals_that_count_no_test_images_are_said_to_do_so() -> None:
    ranking = rank(
        pd.DataFrame([trial(name, seed=seed, test_accuracy=0.8 + 0.01 * seed) for name in "ab" for seed in (0, 1)])
    )
    said = "Intervals and ties cover the seeds alone"
    assert said in " ".join(notes(ranking, test_images={}))
    assert said not in " ".join(notes(ranking, test_images={"digits": 300}))


def test_notes_say_what_the_ranking_had_to_do_without() -> None:
    complete = [trial("a", seed=seed, standalone_cost_usd=0.1) for seed in range(2)]
    assert notes(rank(pd.DataFrame(complete), test_images=300)) == []
    lacking = [trial("a", test_accuracy=None), trial("b", test_accuracy=None, status="stopped")]
    said = " ".join(notes(rank(pd.DataFrame(lacking))))
    for what in ("No test accuracy", "One seed", "No number of images", "come last", "Cost in USD is unknown"):
        assert what in said


def test_where_some_have_one_seed_it_is_said_how_many() -> None:
    both = [trial("a", seed=seed, test_accuracy=0.9 + seed / 100) for seed in range(2)]
    alone = [trial("b"), trial("c")]
    assert "One seed: how far" in " ".join(notes(rank(pd.DataFrame(alone))))
    assert "One seed in 2 of 3 complete configurations: how far" in " ".join(notes(rank(pd.DataFrame([*both, *alone]))))
    assert "One seed" not in " ".join(notes(rank(pd.DataFrame(both))))


def test_test_accuracies_that_are_to_come_are_not_said_to_be_missing() -> None:
    ended = [trial("a", status="completed")]
    to_come = [trial("a", train_size=400, test_accuracy=None, status="unfinished")]
    ranking = rank(pd.DataFrame([*ended, *to_come]))
    said = " ".join(notes(ranking, test_images={"digits": 300}))
    assert "No test accuracy yet (digits, 400 training images): no trial has been scored on the test split" in said
    assert "No test accuracy:" not in said
    said = " ".join(notes(ranking, test_images={}))
    assert "No test accuracy: ranked by val accuracy" in said
    assert "No test accuracy yet" not in said


def test_seeds_that_scored_alike_are_not_called_one_seed() -> None:
    alike = [trial(model, seed=seed) for model in "ab" for seed in range(2)]
    said = " ".join(notes(rank(pd.DataFrame(alike))))
    assert "configurations whose seeds scored exactly alike (tie -)" in said
    assert "--test-images N gives it" in said
    assert "one seed" not in said
    assert "scored exactly alike" not in " ".join(notes(rank(pd.DataFrame(alike), test_images=300)))


def test_a_score_that_is_missing_is_not_taken_for_one_seed() -> None:
    trials = [trial("a", seed=seed, test_accuracy=0.9 + seed / 100) for seed in range(2)]
    said = " ".join(notes(rank(pd.DataFrame([*trials, *(trial("b", seed=s, test_accuracy=None) for s in range(2))]))))
    assert "No number of images" not in said


def test_a_pick_with_an_interval_is_not_said_to_be_moved_by_chance_unknown() -> None:
    seeds = [trial(model, seed=seed, test_accuracy=0.9 + seed / 100) for model in "abc" for seed in range(2)]
    ranking = rank(pd.DataFrame(seeds))
    ranking["tie_group"] = ranking["tie_group"].mask(ranking["pick"])
    text = sentence(ranking)
    assert "95 % interval" in text
    assert "Its seeds scored exactly alike, so its interval is borrowed" in text
    assert "How far chance moves" not in text


def test_a_pick_stands_apart_only_from_what_it_was_compared_with() -> None:
    seeds = [
        trial(model, seed=seed, test_accuracy=accuracy + seed / 1000, val_accuracy=accuracy)
        for model, accuracy in (("a", 0.9), ("b", 0.5), ("c", 0.4))
        for seed in range(3)
    ]
    ranking = rank(pd.DataFrame(seeds), test_images=300)
    assert sentence(ranking).endswith("It stands apart from all others that completed.")
    ranking["tie_group"] = ranking["tie_group"].mask(ranking["model"] == "c")
    assert sentence(ranking).endswith("It stands apart from all others that can be compared; 1 cannot.")
    ranking["tie_group"] = ranking["tie_group"].mask(ranking["model"] == "b")
    assert sentence(ranking).endswith("None of the others can be compared with it.")


def with_outcomes(accuracies: dict[str, list[float]], images: int, **columns: Any) -> pd.DataFrame:  # noqa: ANN401
    """A ranking of models, a seed for each accuracy, with the outcome of each image."""
    trials, outcomes = [], {}
    for model, row in accuracies.items():
        for seed, accuracy in enumerate(row):
            trial_id = f"{model}{seed}"
            trials.append(trial(model, seed=seed, trial_id=trial_id, test_accuracy=accuracy, **columns))
            outcomes[trial_id] = outcome_of([f"i{i:05d}" for i in range(images)], np.arange(images) < accuracy * images)
    return rank(pd.DataFrame(trials), outcomes=outcomes)


def test_probability_of_being_best_is_said_and_who_is_likelier() -> None:
    ranking = with_outcomes({"a": [0.9, 0.91], "b": [0.2, 0.21]}, 200, val_accuracy=None)
    assert "Best of all with probability >0.99. It stands apart" in sentence(ranking)
    ranking = with_outcomes({"a": [0.9, 0.91, 0.92], "b": [0.895, 0.905, 0.915]}, 200)
    ranking["pick"] = ranking["model"] == "b"
    assert re.search(r"Best of all with probability 0\.\d\d, a lp-ft with 0\.\d\d\.", sentence(ranking))
    assert "probability" not in advice(trial("a"), trial("b"), test_images=300)


def test_seeds_without_outcomes_are_told_what_a_probability_takes() -> None:
    seeds = [trial(model, seed=seed, test_accuracy=0.9 + seed / 100) for model in "ab" for seed in range(2)]
    assert "No probability of being best: it takes" in " ".join(notes(rank(pd.DataFrame(seeds), test_images=300)))
    both = with_outcomes({"a": [0.9, 0.91], "b": [0.2, 0.21]}, 200)
    assert "No probability" not in " ".join(notes(both))


@pytest.mark.parametrize(
    ("accuracies", "images", "helps"),
    [
        ({"a": [0.9], "b": [0.89]}, 300, "more seeds first; one network's 300 test images tell gaps from about 7"),
        ({"a": [0.9, 0.9], "b": [0.89, 0.89]}, 300, "doubt is in the 300 test images, which tell gaps from about 7"),
        ({"a": [0.9, 0.6], "b": [0.6, 0.89]}, 3000, "most of the doubt is in the 2 seeds; more seeds help most"),
    ],
    ids=["one seed", "few images", "scattered seeds"],
)
def test_where_all_are_tied_the_larger_doubt_is_named(
    accuracies: dict[str, list[float]], images: int, helps: str
) -> None:
    said = " ".join(notes(with_outcomes(accuracies, images), test_images={"digits": images}))
    assert "No two can be told apart (digits, 100 training images): " in said
    assert helps in said


def test_where_all_are_tied_on_a_split_of_unknown_size_that_is_said() -> None:
    seeds = [trial(model, seed=seed, test_accuracy=0.9 + seed / 100) for model in "ab" for seed in range(2)]
    assert "the size of this one is unknown." in " ".join(notes(rank(pd.DataFrame(seeds))))


def test_told_apart_configurations_need_no_more_seeds() -> None:
    assert "No two" not in " ".join(notes(with_outcomes({"a": [0.9, 0.91], "b": [0.2, 0.21]}, 200)))


def test_at_all_training_images_it_is_said_that_seeds_draw_the_same() -> None:
    ranking = with_outcomes({"a": [0.9, 0.91]}, 200)
    assert "With all 100 training images of digits, seeds" in " ".join(notes(ranking, train_images={"digits": 100}))
    assert "With all" not in " ".join(notes(ranking, train_images={"digits": 1000}))
