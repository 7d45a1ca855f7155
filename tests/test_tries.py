"""What rows of tries say: the table, the choices, and what each configuration is charged with."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raybench.choices import Choices
from raybench.experiment import Experiment
from raybench.foreign import load_source
from raybench.manifest import read_manifest, write_manifest
from raybench.records import DatasetFacts, Facts, Status, Trial, WeightsFacts
from raybench.results import write_trial
from raybench.runs import open_run
from raybench.trials import Search, expand, first_row, is_undecided, searches_of
from raybench.tries import (
    COLUMNS,
    CONFIGURATION,
    FOLDER,
    charge_search,
    choose_rates,
    failure_texts,
    is_to_run,
    plan_search,
    rate_origins,
    search_table,
)

DIVERGED = "raybench.training.loop.DivergedError: the loss is not finite in epoch 1"
BROKEN = "RuntimeError: no memory\n  File x"


def experiment(**changes: Any) -> Experiment:  # noqa: ANN401 - any key
    data: dict[str, Any] = {
        "name": "small",
        "datasets": [{"name": "photos", "source": "imagefolder:/photos", "train_sizes": [100]}],
        "models": ["resnet8"],
        "strategies": ["linear-probe", "fine-tune"],
        "seeds": [0, 1],
        "training": {"learning_rate": "auto"},
    }
    return Experiment.model_validate({**data, **changes})


FACTS = Facts(
    datasets={
        "photos": DatasetFacts(
            name="photos",
            fingerprint="f",
            classes=("a", "b"),
            train_images=100,
            val_images=50,
            test_images=50,
            train_class_counts=(50, 50),
        )
    },
    weights={"resnet8 random": WeightsFacts(model="resnet8", weights="random", digest="d")},
)


def write_try(run_dir: Path, trial: Trial, *, val_loss: float | None = None, error: str | None = None) -> None:
    row = first_row(trial, Status.FAILED if error else Status.COMPLETED)
    if error:
        row = replace(row, error=error)
    else:
        row = replace(row, val_loss=val_loss, epochs_run=trial.epochs, train_seconds=2.0, standalone_cost_usd=0.25)
    write_trial(run_dir / FOLDER, row, [], None)


def write_tries(run_dir: Path, search: Search, *endings: float | str | None) -> None:
    """Write a row a try: its val loss, or the error it failed with; None: it has not ended."""
    for trial, ending in zip(search.tries, endings, strict=True):
        if isinstance(ending, str):
            write_try(run_dir, trial, error=ending)
        elif ending is not None:
            write_try(run_dir, trial, val_loss=ending)


@pytest.fixture
def searches() -> list[Search]:
    return searches_of(experiment(), FACTS)


def test_the_table_has_a_row_a_try_before_anything_ran(tmp_path: Path, searches: list[Search]) -> None:
    table = search_table(tmp_path, searches, {})
    assert list(table) == COLUMNS
    assert list(table["factor"]) == [0.1, 0.3, 1, 3, 10] * 2
    assert set(table["outcome"]) == {"unfinished"}
    assert not table[["chosen", "at_edge"]].to_numpy().any()
    assert table["val_loss"].isna().all()
    assert search_table(tmp_path, [], {}).empty


def test_the_table_tells_how_each_try_ended(tmp_path: Path, searches: list[Search]) -> None:
    write_tries(tmp_path, searches[0], 0.9, 0.5, BROKEN, DIVERGED, None)
    table = search_table(tmp_path, searches[:1], {searches[0].search_id: 0.3})
    assert list(table["outcome"]) == ["ended", "ended", "failed", "diverged", "unfinished"]
    assert list(table["chosen"]) == [False, True, False, False, False]
    assert table["error"].iloc[2] == BROKEN
    assert list(table["val_loss"].dropna()) == [0.9, 0.5]
    assert table["learning_rates"].iloc[1] == (searches[0].tries[1].strategy.phases[0].learning_rate,)


def test_a_rate_follows_from_the_rows_of_all_its_tries(tmp_path: Path, searches: list[Search]) -> None:
    probe, tuned = searches
    write_tries(tmp_path, probe, 0.9, 0.5, 0.7, 0.8, DIVERGED)
    write_tries(tmp_path, tuned, 0.9, 0.5, 0.7, 0.8, None)
    assert choose_rates(tmp_path, searches) == {probe.search_id: 0.3}
    assert is_to_run(tmp_path, searches, retry_failed=False) == {tuned.tries[-1].trial_id}


def test_failed_tries_are_to_run_again_on_request_and_diverged_ones_never(
    tmp_path: Path, searches: list[Search]
) -> None:
    write_tries(tmp_path, searches[0], 0.9, BROKEN, DIVERGED, 0.8, BROKEN)
    assert not is_to_run(tmp_path, searches[:1], retry_failed=False)
    again = {searches[0].tries[place].trial_id for place in (1, 4)}
    assert is_to_run(tmp_path, searches[:1], retry_failed=True) == again


def test_a_search_that_came_to_nothing_says_why(tmp_path: Path, searches: list[Search]) -> None:
    probe, tuned = searches
    write_tries(tmp_path, probe, *[DIVERGED] * 5)
    write_tries(tmp_path, tuned, *[DIVERGED] * 4, None)
    ((key, text),) = failure_texts(tmp_path, searches).items()
    assert key == ("photos", 100, "resnet8", "random", "linear-probe")
    assert "none of the 5 rates" in text
    assert "the loss is not finite in epoch 1" in text


def results_of(of: Experiment) -> pd.DataFrame:
    rows = [first_row(trial, Status.UNFINISHED) for trial in expand(of, FACTS)]
    return pd.DataFrame([{name: getattr(row, name) for name in [*CONFIGURATION, "seed"]} for row in rows])


def test_every_seed_of_a_configuration_carries_what_its_search_took(tmp_path: Path, searches: list[Search]) -> None:
    for search in searches:
        write_tries(tmp_path, search, 0.9, 0.5, 0.7, 0.8, 0.9)
    charged = charge_search(results_of(experiment()), tmp_path, experiment(), FACTS)
    assert list(charged["search_seconds"]) == [10.0] * 4
    assert list(charged["search_cost_usd"]) == [1.25] * 4
    assert list(charged["seed"]) == [0, 0, 1, 1]


def test_a_try_without_a_result_is_charged_like_the_costliest_so_that_all_pay_for_the_same(
    tmp_path: Path, searches: list[Search]
) -> None:
    write_tries(tmp_path, searches[0], 0.9, 0.5, BROKEN, 0.8, DIVERGED)
    write_tries(tmp_path, searches[1], *[DIVERGED] * 5)
    charged = charge_search(results_of(experiment()), tmp_path, experiment(), FACTS)
    by_strategy = charged.groupby("strategy")[["search_seconds", "search_cost_usd"]].first()
    assert list(by_strategy.loc["linear-probe"]) == [10.0, 1.25]
    assert by_strategy.loc["fine-tune"].isna().all(), "unknown is no 0"


def test_a_try_of_unknown_cost_makes_the_cost_of_the_search_unknown(tmp_path: Path, searches: list[Search]) -> None:
    write_tries(tmp_path, searches[0], 0.9, 0.5, 0.7, 0.8, 0.9)
    trial = searches[0].tries[0]
    row = replace(first_row(trial, Status.COMPLETED), val_loss=0.9, train_seconds=2.0)
    write_trial(tmp_path / FOLDER, row, [], None)
    charged = charge_search(results_of(experiment()), tmp_path, experiment(), FACTS)
    probed = charged[charged["strategy"] == "linear-probe"]
    assert list(probed["search_seconds"]) == [10.0] * 2
    assert probed["search_cost_usd"].isna().all()


def test_a_configuration_with_fixed_rates_is_charged_with_nothing_known(tmp_path: Path) -> None:
    given = {"name": "given", "phases": [{"train": "all", "learning_rate": 0.1}]}
    mixed = experiment(strategies=["fine-tune", given])
    write_tries(tmp_path, searches_of(mixed, FACTS)[0], 0.9, 0.5, 0.7, 0.8, 0.9)
    charged = charge_search(results_of(mixed), tmp_path, mixed, FACTS)
    seconds = charged.groupby("strategy")["search_seconds"]
    assert list(seconds.get_group("fine-tune")) == [10.0] * 2
    assert seconds.get_group("given").isna().all()
    fixed = experiment(training={"learning_rate": 0.1})
    assert charge_search(results_of(fixed), tmp_path, fixed, FACTS).equals(results_of(fixed))


def test_configurations_that_share_tries_are_each_charged_with_them(tmp_path: Path) -> None:
    longer = {"name": "longer", "phases": [{"train": "all", "epochs": 50}]}
    both = experiment(
        strategies=["fine-tune", longer], training={"learning_rate": "auto", "learning_rate_search": {"epochs": 5}}
    )
    first, second = searches_of(both, FACTS)
    assert first.search_id == second.search_id
    write_tries(tmp_path, first, 0.9, 0.5, 0.7, 0.8, 0.9)
    plan = plan_search(both, FACTS, tmp_path, {})
    assert plan is not None
    assert (plan.configurations, plan.tries, plan.to_go) == (2, 5, 0)
    assert list(charge_search(results_of(both), tmp_path, both, FACTS)["search_seconds"]) == [10.0] * 4


def test_the_plan_counts_what_is_to_be_tried(tmp_path: Path, searches: list[Search]) -> None:
    plan = plan_search(experiment(), FACTS, tmp_path, {})
    assert plan is not None
    assert (plan.configurations, plan.tries, plan.to_go, plan.most_epochs) == (2, 10, 10, 10 * 20)
    assert plan.factors == (0.1, 0.3, 1, 3, 10)
    write_tries(tmp_path, searches[0], 0.9, 0.5, 0.7, 0.8, None)
    started = plan_search(experiment(), FACTS, tmp_path, {searches[1].search_id: 1})
    assert started is not None
    assert started.to_go == 1
    assert plan_search(experiment(training={}), FACTS, tmp_path, {}) is None


def test_rates_that_are_written_down_are_found_again_and_those_of_earlier_settings_stay(
    tmp_path: Path, searches: list[Search]
) -> None:
    first, second = (search.search_id for search in searches)
    write_manifest(tmp_path, experiment(), FACTS, Choices(), {first: 0.3})
    write_manifest(tmp_path, experiment(), FACTS, Choices(), {second: 3})
    write_manifest(tmp_path, experiment(), FACTS, Choices())
    manifest = read_manifest(tmp_path)
    assert manifest.rates == {first: 0.3, second: 3}
    assert not any(is_undecided(trial) for trial in manifest.trials())
    assert open_run(tmp_path).trials == tuple(manifest.trials())


def test_a_run_that_is_ranked_carries_what_its_searches_took(tmp_path: Path, searches: list[Search]) -> None:
    rates = {search.search_id: 1.0 for search in searches}
    write_manifest(tmp_path, experiment(), FACTS, Choices(), rates)
    for trial in read_manifest(tmp_path).trials():
        write_trial(tmp_path, first_row(trial, Status.COMPLETED), [], None)
    for search in searches:
        write_tries(tmp_path, search, 0.9, 0.5, 0.3, 0.8, 0.9)
    assert list(load_source(tmp_path).results["search_cost_usd"]) == [1.25] * 4
    assert len(load_source(tmp_path).results) == 4, "no try among them"


def test_origins_name_what_was_fixed_what_was_searched_and_what_is_at_an_edge(
    tmp_path: Path, searches: list[Search]
) -> None:
    given = {"name": "given", "phases": [{"train": "all", "learning_rate": 0.1}]}
    mixed = experiment(strategies=["linear-probe", "fine-tune", given])
    write_tries(tmp_path, searches[0], 0.9, 0.5, 0.7, 0.8, 0.9)
    write_tries(tmp_path, searches[1], 0.9, 0.8, 0.7, 0.6, 0.5)
    origins = rate_origins(tmp_path, mixed, FACTS, choose_rates(tmp_path, searches))
    assert origins.fixed == ("given",)
    assert origins.searched == ("linear-probe", "fine-tune")
    assert origins.at_edge == ("resnet8 random fine-tune on 100 of photos",)
    assert not math.isnan(origins.rates_tried)


def test_a_new_price_makes_a_new_cost(tmp_path: Path, searches: list[Search]) -> None:
    for trial in searches[0].tries:
        row = replace(
            first_row(trial, Status.COMPLETED), train_seconds=3600.0, cpu_share=0.5, instance_type="local", val_loss=1.0
        )
        write_trial(tmp_path / FOLDER, row, [], None)
    charged = charge_search(results_of(experiment()), tmp_path, experiment(), FACTS, {"local": 2.0})
    assert list(charged.groupby("strategy")["search_cost_usd"].get_group("linear-probe")) == [5.0, 5.0]
