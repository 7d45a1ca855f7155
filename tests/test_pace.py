import pytest

from raybench.pace import epochs_of, pace_key, pace_keys, seconds_alone
from raybench.records import Pace, Phase, Strategy, Trial
from tests.builders import PHASE, make_trial


def phase(train: str | tuple[str, ...] = "all", optimizer: str = "adam") -> Phase:
    changes = {"train": train, "optimizer": optimizer}
    return Phase(**{name: changes.get(name, getattr(PHASE, name)) for name in PHASE.__dataclass_fields__})


def probe_then_all(augmentation: str = "none") -> Trial:
    return make_trial(
        train_size=100, strategy=Strategy(name="lp-ft", augmentation=augmentation, phases=(phase("head"), phase()))
    )


HEAD = Pace(train_seconds=0.001, val_seconds=0.0005, feature_seconds=0.01)
ALL = Pace(train_seconds=0.03, val_seconds=0.01)


def paces(trial: Trial) -> dict[str, Pace]:
    return dict(zip(pace_keys(trial), (HEAD, ALL), strict=True))


def test_seconds_are_images_of_each_phase_times_seconds_an_image_and_features_once() -> None:
    trial = probe_then_all()
    features = (100 + 40) * 0.01
    probe = 7 * (100 * 0.001 + 40 * 0.0005)
    rest = 2 * (100 * 0.03 + 40 * 0.01)
    assert seconds_alone(trial, [7, 2], paces(trial), val_images=40) == pytest.approx(features + probe + rest)
    assert seconds_alone(trial, [7, 0], paces(trial), val_images=40) == pytest.approx(features + probe)


def test_augmented_images_are_pushed_through_the_backbone_each_epoch_so_only_val_has_features() -> None:
    trial = probe_then_all("default")
    probe = 7 * (100 * 0.001 + 40 * 0.0005) + 40 * 0.01
    assert seconds_alone(trial, [7, 0], paces(trial), val_images=40) == pytest.approx(probe)


def test_two_phases_on_the_same_backbone_share_its_features() -> None:
    trial = make_trial("1", phase("head"), phase("head", "sgd"), train_size=100)
    known = dict.fromkeys(pace_keys(trial), HEAD)
    once = (100 + 40) * 0.01
    assert seconds_alone(trial, [1, 1], known, val_images=40) == pytest.approx(once + 2 * (0.1 + 40 * 0.0005))


def test_unknown_pace_gives_no_seconds_rather_than_some() -> None:
    trial = probe_then_all()
    known = {pace_key(trial, 0): HEAD}
    assert seconds_alone(trial, [7, 1], known, val_images=40) is None
    assert seconds_alone(trial, [7, 0], known, val_images=40) is not None, "a phase that was not reached costs nothing"


def test_epochs_are_counted_by_phase_and_one_that_was_not_reached_has_none() -> None:
    assert epochs_of([1, 1, 2], probe_then_all()) == [2, 1]
    assert epochs_of([1], probe_then_all()) == [1, 0]


def test_pace_depends_on_layers_augmentation_and_optimizer_but_not_on_the_number_of_images_or_the_seed() -> None:
    trial = probe_then_all()
    same = make_trial("other", strategy=trial.strategy, train_size=5, seed=3)
    assert pace_keys(trial) == pace_keys(same)
    others = [
        pace_key(make_trial("1", phase(("layer3",))), 0),
        pace_key(make_trial("1", phase(optimizer="sgd")), 0),
        pace_key(probe_then_all("flip"), 1),
        pace_key(make_trial("1", phase(), model="resnet20"), 0),
        pace_key(trial, 0),
        pace_key(trial, 1),
    ]
    assert len(set(others)) == len(others)
