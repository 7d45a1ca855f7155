"""From an experiment to trials: identity, order, strategies resolved."""

from typing import Any

import pytest

from raybench.errors import ExperimentError
from raybench.experiment import Experiment, parse_experiment
from raybench.records import DatasetFacts, Facts, Trial, WeightsFacts
from raybench.trials import expand, from_json, group_of, starting_order, to_json
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
