"""What a run directory may be extended by: which changes are taken, which are refused, and by what name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from raybench.choices import Choices
from raybench.errors import ExperimentError, RunError
from raybench.experiment import parse_experiment
from raybench.extension import check_extension
from raybench.manifest import EXPERIMENT, MANIFEST, check_belongs, read_manifest, write_manifest
from raybench.records import DatasetFacts, Facts, Status, WeightsFacts
from raybench.results import write_trial
from raybench.trials import expand, first_row, searches_of

PHASES: list[dict[str, Any]] = [{"train": "head", "epochs": 2}, {"train": "all"}]
SMALL: dict[str, Any] = {
    "name": "small",
    "datasets": [
        {"name": "photos", "source": "imagefolder:/data/photos", "image_size": 32, "train_sizes": [50, "all"]},
        {"name": "digits", "source": "digits", "image_size": 8, "train_sizes": [50]},
    ],
    "models": ["resnet8", "package.module:Net"],
    "weights": ["random", "/data/net.pth"],
    "strategies": ["linear-probe", "fine-tune+augment", {"name": "mine", "phases": PHASES}],
    "seeds": [0, 1],
    "training": {"epochs": 3, "learning_rate": 0.003},
}
AUTO = {**SMALL, "training": {"epochs": 3, "learning_rate": "auto"}}
TRIALS = 3 * 2 * 2 * 3 * 2


def facts_of(data: Mapping[str, Any]) -> Facts:
    """What preflight would see: images by the dataset's source and what is done to them, weights by their names."""
    experiment = parse_experiment(dict(data), "small.yaml")
    datasets = {
        each.name: DatasetFacts(
            name=each.name,
            fingerprint=f"{Path(each.source).name} {each.image_size} {each.val_size}",
            classes=("a", "b"),
            train_images=800 - (each.val_size or 0),
            val_images=each.val_size or 200,
            test_images=300,
            train_class_counts=(400, 400),
        )
        for each in experiment.datasets
    }
    weights = {
        f"{model.name} {each}": WeightsFacts(model=model.name, weights=each, digest=f"{model.name} {Path(each).name}")
        for model in experiment.models
        for each in experiment.weights
    }
    return Facts(datasets=datasets, weights=weights)


def write_run(folder: Path, data: Mapping[str, Any], status: Status | None = Status.COMPLETED) -> Path:
    """Write a run all of whose trials ended so, on the default rates where they are searched."""
    experiment, facts = parse_experiment(dict(data), "small.yaml"), facts_of(data)
    rates = {search.search_id: 1.0 for search in searches_of(experiment, facts)}
    folder.mkdir(exist_ok=True)
    write_manifest(folder, experiment, facts, Choices(), rates)
    if status is not None:
        for trial in expand(experiment, facts, rates):
            write_trial(folder, first_row(trial, status), [], None)
    return folder


def check(folder: Path, data: Mapping[str, Any], facts: Facts | None = None) -> None:
    check_extension(folder, parse_experiment(dict(data), "small.yaml"), facts or facts_of(data), "small.yaml")


def refusal(folder: Path, data: Mapping[str, Any], facts: Facts | None = None) -> str:
    with pytest.raises(ExperimentError) as caught:
        check(folder, data, facts)
    return str(caught.value)


def training(**keys: object) -> dict[str, Any]:
    return {"training": {**SMALL["training"], **keys}}


def photos(**keys: object) -> dict[str, Any]:
    return {"datasets": [{**SMALL["datasets"][0], **keys}, SMALL["datasets"][1]]}


def mine(*phases: Mapping[str, Any], **keys: object) -> dict[str, Any]:
    return {"strategies": [*SMALL["strategies"][:2], {"name": "mine", "phases": list(phases), **keys}]}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("ended"), SMALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Keys of the file in place of those of `SMALL`, and what the refusal says of them."""

    keys: dict[str, Any]
    says: tuple[str, ...]
    trials: int = TRIALS


REFUSED = {
    "epochs": Change(keys=training(epochs=5), says=("training.epochs: was 3, is 5",)),
    "two keys": Change(
        keys=training(epochs=5, batch_size=8),
        says=("small.yaml: training.epochs: was 3, is 5\n", "small.yaml: training.batch_size: was 32, is 8\n"),
    ),
    "a key that was not there": Change(keys=training(patience=2), says=("training.patience: was not given, is 2",)),
    "a switch": Change(keys=training(deterministic=False), says=("training.deterministic: was true, is false",)),
    "a phase": Change(
        keys=mine({"train": "head", "epochs": 4}, {"train": "all"}),
        says=("strategies[mine].phases[0].epochs: was 2, is 4",),
        trials=TRIALS // 3,
    ),
    "one phase fewer": Change(
        keys=mine({"train": "all"}),
        says=(
            'strategies[mine].phases: was [{"epochs": 2, "train": "head"}, {"train": "all"}], is [{"train": "all"}]',
        ),
        trials=TRIALS // 3,
    ),
    "a strategy's augmentation": Change(
        keys=mine(*PHASES, augment=True), says=("strategies[mine].augment: was false, is true",), trials=TRIALS // 3
    ),
    "a built-in strategy under which another one trains": Change(
        keys={"strategies": [*SMALL["strategies"], {"name": "fine-tune", "phases": [{"train": "all", "epochs": 1}]}]},
        says=("strategies[fine-tune]: is new, and fine-tune+augment would have its phases",),
        trials=TRIALS // 3,
    ),
    "augmentation of a dataset": Change(
        keys=photos(augmentation="trivialaugment"),
        says=("datasets[photos].augmentation: was 'default', is 'trivialaugment'",),
        trials=2 * 2 * 2 * 2,
    ),
    "image size": Change(
        keys=photos(image_size=64), says=("datasets[photos].image_size: was 32, is 64",), trials=TRIALS * 2 // 3
    ),
    "a split, and so the size that is all": Change(
        keys=photos(val_size=100), says=("datasets[photos].val_size: was not given, is 100",), trials=TRIALS * 2 // 3
    ),
    "other images in another folder": Change(
        keys=photos(source="imagefolder:/data/others"),
        says=("datasets[photos].source: was 'imagefolder:/data/photos', is 'imagefolder:/data/others'",),
        trials=TRIALS * 2 // 3,
    ),
    "a head": Change(
        keys={"models": [{"name": "resnet8", "head": "fc"}, "package.module:Net"]},
        says=("models[resnet8].head: was not given, is 'fc'",),
        trials=TRIALS // 2,
    ),
    "a rate that is to be searched": Change(
        keys=training(learning_rate="auto"), says=("training.learning_rate: was 0.003, is 'auto'",)
    ),
    "a change beside additions, removals and moves": Change(
        keys={**training(epochs=5), **photos(source="imagefolder:/new/photos"), "seeds": [1, 2], "models": ["resnet8"]},
        says=("training.epochs: was 3, is 5",),
        trials=TRIALS // 4,
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_change_that_would_train_what_has_ended_anew_is_refused_by_its_key(case: Change, ended: Path) -> None:
    message = refusal(ended, {**SMALL, **case.keys})
    for text in case.says:
        assert text in message
    lines = message.splitlines()
    assert len(lines) == (1 if len(case.says) == 1 else len(case.says) + 1), "no other key is named"
    assert lines[0].startswith("small.yaml: ")
    assert f"{case.trials} trials have ended or begun in {ended} as it was" in lines[-1]
    assert f"give another --run-dir, to which --reuse {ended} brings what is the same" in lines[-1]


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "one more model": {"models": ["resnet20", *SMALL["models"]]},
    "one more dataset": {"datasets": [{"name": "new", "source": "digits", "image_size": 16}, *SMALL["datasets"]]},
    "one more strategy": {"strategies": ["lp-ft", "mine+augment", *SMALL["strategies"]]},
    "one more choice of weights": {"weights": ["imagenet", *SMALL["weights"]]},
    "other seeds": {"seeds": [2, 1]},
    "other sizes": photos(train_sizes=[100, 50]),
    "one model fewer": {"models": ["resnet8"]},
    "one strategy fewer": {"strategies": SMALL["strategies"][2:]},
    "another order": {key: SMALL[key][::-1] for key in ("datasets", "models", "weights", "strategies", "seeds")},
    "a folder that moved": photos(source="imagefolder:/new/photos", root="/new"),
    "a dataset of another name": photos(name="pictures"),
    "a weight file that moved": {"weights": ["random", "/new/net.pth"]},
    "names of two strategies that are exchanged": {
        "strategies": [{"name": "linear-probe", "phases": PHASES}, {"name": "mine", "phases": [{"train": "head"}]}]
    },
    "scheduler": {"scheduler": {"asha": {"grace_period": 1}}},
    "no scheduler": {"scheduler": "none"},
    "resources": {"resources": {"cpu": 2, "gpu": 0, "measure": False}},
    "prices": {"price_per_hour_usd": {"local": 3}},
    "budget": {"budget": {"usd": 3}},
    "limits": {"trial_timeout": "6h", "cache_limit_gb": 1},
    "a search that nobody asks for": training(learning_rate_search={"values": 7, "epochs": 2}),
    "a default that is written down": training(momentum=0.9),
    "augmentation of a dataset on which nothing is augmented": {
        **photos(augmentation="trivialaugment"),
        "strategies": ["linear-probe", SMALL["strategies"][2]],
    },
}


@pytest.mark.parametrize("keys", ACCEPTED.values(), ids=ACCEPTED)
def test_what_leaves_the_ids_of_old_trials_as_they_are_is_accepted(keys: dict[str, Any], ended: Path) -> None:
    check(ended, {**SMALL, **keys})


@pytest.mark.parametrize("status", [None, Status.FAILED, Status.UNFINISHED])
def test_a_directory_in_which_nothing_has_ended_accepts_any_change(status: Status | None, tmp_path: Path) -> None:
    folder = write_run(tmp_path, SMALL, status)
    for case in REFUSED.values():
        check(folder, {**SMALL, **case.keys})


def test_a_trial_that_was_stopped_has_ended(tmp_path: Path) -> None:
    assert "training.epochs" in refusal(write_run(tmp_path, SMALL, Status.STOPPED), {**SMALL, **training(epochs=5)})


@pytest.mark.parametrize(("status", "refused"), [(None, True), (Status.UNFINISHED, True), (Status.FAILED, False)])
def test_a_checkpoint_counts_unless_its_trial_failed(status: Status | None, refused: bool, tmp_path: Path) -> None:
    folder = write_run(tmp_path, SMALL, status)
    (folder / "checkpoints").mkdir()
    trial, *_ = read_manifest(folder).trials()
    (folder / "checkpoints" / f"{trial.trial_id}.pt").touch()
    changed = {**SMALL, **training(epochs=5)}
    if refused:
        assert "; 1 trial has ended or begun in" in refusal(folder, changed)
    else:
        check(folder, changed)


def other_images(facts: Facts) -> Facts:
    dataset = replace(facts.datasets["photos"], fingerprint="edited", train_images=801)
    return replace(facts, datasets={**facts.datasets, "photos": dataset})


def other_weights(*names: str) -> Callable[[Facts], Facts]:
    return lambda facts: replace(
        facts,
        weights={
            name: replace(each, digest="edited" if name in names else each.digest)
            for name, each in facts.weights.items()
        },
    )


@pytest.mark.parametrize(
    ("keys", "edit", "says", "trials"),
    [
        ({}, other_images, "datasets[photos]: its images changed since", TRIALS * 2 // 3),
        (
            {},
            other_weights("resnet8 /data/net.pth", "package.module:Net /data/net.pth"),
            "weights[net.pth]: the file changed since",
            TRIALS // 2,
        ),
        (
            {"weights": ["random", "/new/net.pth"]},
            other_weights("resnet8 /new/net.pth"),
            "weights[net.pth]: was '/data/net.pth', is '/new/net.pth', which holds others",
            TRIALS // 4,
        ),
        (
            {},
            other_weights("package.module:Net random"),
            "models[package.module:Net]: its network with weights 'random' changed since",
            TRIALS // 4,
        ),
    ],
)
def test_content_that_changed_under_its_name_is_refused(
    keys: dict[str, Any], edit: Callable[[Facts], Facts], says: str, trials: int, ended: Path
) -> None:
    data = {**SMALL, **keys}
    message = refusal(ended, data, edit(facts_of(data)))
    assert message.startswith(f"small.yaml: {says}; {trials} trials have ended")


def test_a_rate_that_a_search_has_chosen_is_no_change(tmp_path: Path) -> None:
    folder = write_run(tmp_path, AUTO)
    check(folder, AUTO)
    check(folder, {**AUTO, "models": [*AUTO["models"], "resnet20"]})


def test_another_search_than_that_of_trials_that_ended_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, AUTO)
    more = {**AUTO, "training": {**AUTO["training"], "learning_rate_search": {"values": 7}}}
    assert "training.learning_rate_search.values: was 5, is 7; " in refusal(folder, more)
    assert "training.learning_rate: was 'auto', is 0.003; " in refusal(folder, SMALL)


def test_a_search_that_has_not_ended_accepts_any_change(tmp_path: Path) -> None:
    experiment, facts = parse_experiment(dict(AUTO), "small.yaml"), facts_of(AUTO)
    write_manifest(tmp_path, experiment, facts, Choices())
    for trial in expand(experiment, facts):  # without a rate: its search came to nothing
        write_trial(tmp_path, first_row(trial, Status.FAILED), [], None)
    check(tmp_path, SMALL)


def test_a_folder_without_a_run_accepts_anything(tmp_path: Path) -> None:
    check(tmp_path, SMALL)
    check(tmp_path / "new", SMALL)


def test_a_run_that_died_between_its_two_files_can_go_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path, SMALL)
    more = {**SMALL, "models": [*SMALL["models"], "resnet20"]}
    (tmp_path / "other").mkdir()
    written = write_run(tmp_path / "other", more, None)
    (folder / EXPERIMENT).write_bytes((written / EXPERIMENT).read_bytes())
    check(folder, more)


@pytest.mark.parametrize("lost", [MANIFEST, EXPERIMENT])
def test_a_directory_that_lost_one_of_its_two_files_is_gone_on_with_by_the_experiment_of_that_name(
    lost: str, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", SMALL)
    (folder / lost).unlink()
    check_belongs(folder, parse_experiment(dict(SMALL), "small.yaml"))
    check(folder, SMALL)
    with pytest.raises(RunError, match="holds a run of experiment 'small', not of 'other'"):
        check_belongs(folder, parse_experiment({**SMALL, "name": "other"}, "other.yaml"))
