"""From an experiment to trials: identity, order, strategies resolved."""

from typing import Any

import pytest

from raybench.errors import ExperimentError
from raybench.experiment import Experiment, parse_experiment
from raybench.learning_rates import TUNING_SEED
from raybench.records import DatasetFacts, Facts, Trial, WeightsFacts
from raybench.trials import (
    Search,
    describe,
    expand,
    from_json,
    group_of,
    is_undecided,
    searches_of,
    starting_order,
    to_json,
)
from raybench.yaml_input import apply_override, parse_yaml

STUDY = """
name: study
datasets:
  - {name: photos, source: 'imagefolder:/photos', image_size: 64, train_sizes: [100, all]}
models: [resnet18, resnet50]
weights: [imagenet]
strategies: [linear-probe, lp-ft+augment]
seeds: [0, 1]
"""


def study(*overrides: str) -> Experiment:
    data: dict[str, Any] = parse_yaml(STUDY, "study.yaml")
    for override in overrides:
        apply_override(data, override)
    return parse_experiment(data, "study.yaml")


def facts(experiment: Experiment, *, train_images: int = 500, fingerprint: str = "f", digest: str = "d") -> Facts:
    return Facts(
        datasets={
            dataset.name: DatasetFacts(
                name=dataset.name,
                fingerprint=fingerprint,
                classes=("a", "b"),
                train_images=train_images,
                val_images=50,
                test_images=50,
                train_class_counts=(train_images // 2, train_images // 2),
            )
            for dataset in experiment.datasets
        },
        weights={
            f"{model.name} {choice}": WeightsFacts(model=model.name, weights=choice, digest=digest)
            for model in experiment.models
            for choice in experiment.weights
        },
    )


def trials(*overrides: str, **seen: int | str) -> list[Trial]:
    experiment = study(*overrides)
    return expand(experiment, facts(experiment, **seen))  # type: ignore[arg-type]


def ids(*overrides: str, **seen: int | str) -> set[str]:
    return {trial.trial_id for trial in trials(*overrides, **seen)}


def test_every_combination_is_one_trial_with_an_id_of_its_own() -> None:
    expanded = trials()
    assert len(expanded) == 2 * 2 * 2 * 2
    assert len({trial.trial_id for trial in expanded}) == 16
    assert {trial.train_size for trial in expanded} == {100, 500}


def test_all_configurations_of_a_seed_come_before_the_next_seed() -> None:
    assert [trial.seed for trial in trials()] == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "datasets.0.name=renamed",
        "datasets.0.root=/elsewhere",
        "datasets.0.source='imagefolder:/moved'",
        "scheduler=none",
        "resources.gpu=0.5",
        "price_per_hour_usd={local: 1}",
        "cache_limit_gb=2",
        "training.patience=15",
        "strategies=[linear-probe,{name: x, augment: true, phases: [{train: head},{train: all,learning_rate: 1e-5}]}]",
    ],
)
def test_what_decides_no_outcome_changes_no_id(override: str) -> None:
    assert ids(override) == ids()


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=50",
        "training.patience=3",
        "training.batch_size=16",
        "training.label_smoothing=0.1",
        "training.class_weights=balanced",
        "training.precision=float32",
        "seeds=[5, 6]",
        "models=[resnet34, resnet101]",
        "datasets.0.train_sizes=[99, 400]",
    ],
)
def test_what_decides_the_outcome_changes_every_id(override: str) -> None:
    assert not ids(override) & ids()


def test_other_data_or_other_weight_bytes_are_other_trials() -> None:
    assert not ids(fingerprint="g") & ids()
    assert not ids(digest="e") & ids()


def test_the_augmentation_policy_changes_only_the_ids_of_augmented_strategies() -> None:
    assert len(ids("datasets.0.augmentation=flip") & ids()) == 8


def test_named_strategies_become_the_documented_phases() -> None:
    probe, full = next(trial for trial in trials() if trial.strategy.name == "lp-ft+augment").strategy.phases
    assert (probe.train, probe.learning_rate) == ("head", 1e-3)
    assert (full.train, full.learning_rate) == ("all", 1e-5)
    assert probe.epochs == full.epochs == 100
    assert probe.patience == 15


def test_patience_follows_from_the_epochs_of_its_own_phase() -> None:
    spelled = "strategies=[{name: mine, phases: [{train: head, epochs: 40}, {train: [layer4], epochs: 4}]}]"
    head, layers = trials(spelled)[0].strategy.phases
    assert (head.patience, layers.patience) == (6, 1)
    assert layers.train == ("layer4",)


def test_a_redefined_name_is_used_by_its_augmented_twin_too() -> None:
    own = "strategies=[{name: fine-tune, phases: [{train: all, optimizer: sgd}]}, fine-tune+augment]"
    plain, augmented = trials(own)[:2]
    assert plain.strategy.phases == augmented.strategy.phases
    assert plain.strategy.phases[0].optimizer == "sgd"
    assert (plain.strategy.augmentation, augmented.strategy.augmentation) == ("none", "default")


def test_digits_are_never_mirrored_by_default() -> None:
    policy = trials("datasets.0.source=digits")[-1].strategy.augmentation
    assert policy == "no-flip"


def test_augmenting_where_the_dataset_turns_it_off_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"'lp-ft\+augment' asks for augmentation"):
        trials("datasets.0.augmentation=none")


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ("[501]", ["datasets[0].train_sizes[0]", "501", "500", "all"]),
        ("[100, 1]", ["datasets[0].train_sizes[1]", "1", "2 classes", "at least 2"]),
        ("[500, all]", ["datasets[0].train_sizes[1]", "'all'", "500"]),
    ],
)
def test_a_size_that_cannot_be_had_is_refused(sizes: str, parts: list[str]) -> None:
    with pytest.raises(ExperimentError) as caught:
        trials(f"datasets.0.train_sizes={sizes}")
    assert all(part in str(caught.value) for part in parts)


def test_two_names_for_the_same_training_are_refused() -> None:
    with pytest.raises(ExperimentError, match="are the same training"):
        trials("strategies=[linear-probe, {name: twin, phases: [{train: head}]}]")


def test_trials_survive_json() -> None:
    for trial in trials("strategies=[{name: mine, phases: [{train: [layer4]}]}]"):
        assert from_json(to_json(trial)) == trial


def test_trials_with_one_linear_probe_to_begin_with_name_it() -> None:
    names = "[linear-probe, lp-ft, linear-probe+augment, lp-ft+augment, fine-tune]"
    by_name = {trial.strategy.name: trial for trial in trials(f"strategies={names}")[:5]}
    for suffix in ("", "+augment"):
        probe, both = by_name[f"linear-probe{suffix}"], by_name[f"lp-ft{suffix}"]
        assert both.first_phase_id == probe.first_phase_id == probe.trial_id != both.trial_id
    assert by_name["fine-tune"].first_phase_id is None


def test_the_first_phase_is_the_same_trial_whether_or_not_that_is_in_the_experiment() -> None:
    assert {trial.first_phase_id for trial in trials("strategies=[lp-ft]")} == ids("strategies=[linear-probe]")


def test_trials_that_take_a_phase_over_start_after_all_others_of_their_seed_and_size() -> None:
    expanded = trials("strategies=[linear-probe, lp-ft, lp-ft+augment, fine-tune]")

    ordered = starting_order(expanded)

    names = ["linear-probe", "lp-ft+augment", "fine-tune"] * 2 + ["lp-ft"] * 2
    assert [trial.strategy.name for trial in ordered] == names * 4
    assert [(trial.seed, trial.train_size) for trial in ordered] == [
        (trial.seed, trial.train_size) for trial in expanded
    ]


def test_groups_share_exactly_the_chosen_columns() -> None:
    expanded = trials()
    assert len({group_of(trial, ("dataset", "train_size", "seed")) for trial in expanded}) == 4
    assert len({group_of(trial, ("dataset", "train_size")) for trial in expanded}) == 2
    assert group_of(expanded[0], ("dataset", "train_size", "seed")) == "photos/100/0"


AUTO = "training.learning_rate=auto"


def searches(*overrides: str, **seen: int | str) -> list[Search]:
    experiment = study(*overrides)
    return searches_of(experiment, facts(experiment, **seen))  # type: ignore[arg-type]


def chosen(factor: float, *overrides: str) -> list[Trial]:
    """Return the trials where every search chose this factor."""
    experiment = study(*overrides)
    seen = facts(experiment)
    return expand(experiment, seen, {search.search_id: factor for search in searches_of(experiment, seen)})


def test_every_configuration_has_as_many_tries_on_a_seed_that_no_experiment_can_list() -> None:
    found = searches(AUTO)
    assert len(found) == 2 * 2 * 2
    assert {len(search.tries) for search in found} == {5}
    tries = {trial.trial_id: trial for search in found for trial in search.tries}
    assert len(tries) == 8 * 5
    assert {trial.seed for trial in tries.values()} == {TUNING_SEED}
    with pytest.raises(ExperimentError, match="seeds"):
        study(f"seeds=[{TUNING_SEED}]")


def test_without_auto_nothing_is_searched() -> None:
    assert searches() == []


def test_a_try_differs_in_rates_epochs_patience_and_seed_alone() -> None:
    search = next(each for each in searches(AUTO) if each.configuration.recipe.strategy.name == "lp-ft+augment")
    assert [[phase.learning_rate for phase in trial.strategy.phases] for trial in search.tries] == [
        [1e-3, 1e-6],
        [3e-3, 3e-6],
        [1e-2, 1e-5],
        [3e-2, 3e-5],
        [1e-1, 1e-4],
    ]
    trial = search.tries[0]
    assert {(phase.epochs, phase.patience) for phase in trial.strategy.phases} == {(20, 20)}
    assert trial.strategy.augmentation == "default"


def test_trials_wait_for_their_rate_with_ids_of_their_own() -> None:
    waiting = trials(AUTO)
    assert len({trial.trial_id for trial in waiting}) == 16
    assert all(is_undecided(trial) for trial in waiting)
    assert not any(is_undecided(trial) for trial in trials())
    assert not {trial.trial_id for trial in waiting} & ids()


def test_a_chosen_rate_gives_the_trial_that_has_it_written_down() -> None:
    by_hand = "strategies=[linear-probe, {name: lp-ft+augment, augment: true, phases: [{train: head}, {train: all, learning_rate: 3e-5}]}]"  # noqa: E501
    assert chosen(3, AUTO) == trials("training.learning_rate=3e-2", by_hand)


def test_only_the_configurations_whose_rate_is_known_have_it() -> None:
    experiment = study(AUTO)
    seen = facts(experiment)
    first = searches_of(experiment, seen)[0]
    expanded = expand(experiment, seen, {first.search_id: 0.3})
    decided = [trial for trial in expanded if not is_undecided(trial)]
    assert [trial.seed for trial in decided] == [0, 1]
    assert {trial.strategy.phases[0].learning_rate for trial in decided} == {3e-3}


@pytest.mark.parametrize(
    "override",
    [
        "seeds=[5]",
        "models=[resnet18, resnet50, resnet34]",
        "scheduler=none",
        "training.patience=3",
        "datasets.0.root=/x",
    ],
)
def test_what_decides_nothing_about_tries_needs_no_new_search(override: str) -> None:
    assert {each.search_id for each in searches(AUTO)} <= {each.search_id for each in searches(AUTO, override)}


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=50",
        "training.batch_size=16",
        "training.optimizer=sgd",
        "training.learning_rate_search.values=4",
        "training.learning_rate_search.epochs=3",
    ],
)
def test_what_decides_about_tries_is_a_new_search(override: str) -> None:
    assert not {each.search_id for each in searches(AUTO)} & {each.search_id for each in searches(AUTO, override)}


def test_tries_share_their_linear_probe() -> None:
    probe, both = searches(AUTO, "strategies=[linear-probe, lp-ft]")[:2]
    assert [trial.first_phase_id for trial in both.tries] == [trial.trial_id for trial in probe.tries]


def test_a_strategy_whose_rates_are_all_given_is_not_searched() -> None:
    given = "{name: given, phases: [{train: all, learning_rate: 0.1}]}"
    found = searches(AUTO, f"strategies=[fine-tune, {given}]")
    assert {search.configuration.recipe.strategy.name for search in found} == {"fine-tune"}
    fixed = next(trial for trial in trials(AUTO, f"strategies=[fine-tune, {given}]") if trial.strategy.name == "given")
    assert not is_undecided(fixed)
    assert fixed.strategy.phases[0].learning_rate == 0.1


def test_one_phase_alone_can_be_searched() -> None:
    spelled = "{name: mine, phases: [{train: head}, {train: all, learning_rate: auto}]}"
    (search, *_) = searches(f"strategies=[{spelled}]")
    assert {trial.strategy.phases[0].learning_rate for trial in search.tries} == {1e-3}
    assert [trial.strategy.phases[1].learning_rate for trial in search.tries] == [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]


def test_a_rate_that_is_both_given_and_chosen_makes_two_configurations_with_trials_of_their_own() -> None:
    entries = "strategies=[fine-tune, {name: given, phases: [{train: all, learning_rate: 0.001}]}]"
    expanded = chosen(1, AUTO, entries)
    assert len({trial.trial_id for trial in expanded}) == len(expanded) == 16
    given = {trial.trial_id for trial in expanded if trial.strategy.name == "given"}
    assert given == {trial.trial_id for trial in trials("strategies=[fine-tune]")}


def test_two_names_for_the_same_search_are_refused() -> None:
    with pytest.raises(ExperimentError, match="are the same training"):
        trials(AUTO, "strategies=[fine-tune, {name: twin, phases: [{train: all}]}]")


def test_a_try_is_called_by_its_rate() -> None:
    text = describe(searches(AUTO)[0].tries[0])
    assert text == "resnet18 imagenet linear-probe · photos 100 · learning rate 0.001"


def test_a_backbone_that_has_learned_gets_another_head_and_so_another_id_than_before() -> None:
    learned = expand(study(), facts(study(), digest="d"))[0].trial_id
    assert learned != "30f84dfb9a34", "the id from when heads were drawn by the seed alone"


def test_sync_batchnorm_is_in_the_id_of_a_trial_that_has_it_and_the_number_of_workers_is_not() -> None:
    before, workers, both = (
        [trial.trial_id for trial in expand(made, facts(made, digest="random"))]
        for made in (
            study("weights=[random]"),
            study("weights=[random]", "resources.workers_per_trial=2"),
            study("weights=[random]", "resources.workers_per_trial=2", "training.sync_batchnorm=true"),
        )
    )
    assert before == workers
    assert before[0] == "f8d70e27e573", "as it was before there was this key"
    assert not set(before) & set(both)
