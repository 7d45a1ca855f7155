"""The experiment file: what is accepted, and what one reads when it is not."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raybench.errors import ExperimentError
from raybench.experiment import json_schema, load_experiment, parse_experiment
from raybench.learning_rates import SearchBudget
from raybench.records import ResourceRequest
from raybench.yaml_input import apply_override, parse_yaml

MINIMAL = """
name: small
datasets: [{name: digits, source: digits, image_size: 16}]
models: [resnet8]
strategies: [linear-probe]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path


def test_a_minimal_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, MINIMAL))
    assert experiment.datasets[0].train_sizes == ["all"]
    assert experiment.weights == ["random"]
    assert experiment.seeds == [0]
    assert experiment.training.epochs == 100
    assert experiment.training.learning_rate == 1e-3
    asha = experiment.asha_settings()
    assert asha is not None
    assert (asha.grace_period, asha.reduction_factor, asha.group_by) == (10, 3, ("dataset", "train_size", "seed"))
    assert experiment.resource_request() == ResourceRequest(gpu=None, cpu=None)
    assert experiment.resources.measure
    assert experiment.cache_limit_bytes == 50 * 10**9


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, MINIMAL + "training: {learning_rate: 1e-5}\n"))
    assert experiment.training.learning_rate == 1e-5


def test_relative_paths_are_taken_from_the_base_folder(tmp_path: Path) -> None:
    text = MINIMAL.replace("source: digits", "source: 'imagefolder:photos'") + "weights: [nets/a.pth, random]\n"
    experiment = load_experiment(write(tmp_path, text), base=tmp_path)
    assert experiment.datasets[0].source == f"imagefolder:{tmp_path}/photos"
    assert experiment.weights == [f"{tmp_path}/nets/a.pth", "random"]


def test_overrides_apply_in_order_and_reach_into_lists(tmp_path: Path) -> None:
    experiment = load_experiment(
        write(tmp_path, MINIMAL),
        ["training.epochs=3", "training.epochs=4", "datasets.0.train_sizes=[100, all]", "scheduler=none"],
    )
    assert experiment.training.epochs == 4
    assert experiment.datasets[0].train_sizes == [100, "all"]
    assert experiment.asha_settings() is None


BAD = {
    "unknown key": ("traning: {epochs: 3}", ["traning", "did you mean 'training'"]),
    "unknown key in a part": ("training: {epoch: 3}", ["training.epoch", "did you mean 'epochs'"]),
    "unknown key in a list": (
        "datasets: [{name: a, source: digits, train_size: [3]}]",
        ["datasets[0].train_size", "did you mean 'train_sizes'"],
    ),
    "wrong type": ("training: {epochs: many}", ["training.epochs", "'many'", "a whole number"]),
    "fraction of an epoch": ("training: {epochs: 2.5}", ["training.epochs", "2.5", "a whole number"]),
    "epochs 0": ("training: {epochs: 0}", ["training.epochs", "0", "at least 1"]),
    "batch_size 0": ("training: {batch_size: 0}", ["training.batch_size", "at least 1"]),
    "negative learning rate": ("training: {learning_rate: -0.1}", ["training.learning_rate", "-0.1", "above 0"]),
    "infinite learning rate": ("training: {learning_rate: .inf}", ["training.learning_rate", "finite"]),
    "learning rate in words": (
        "training: {learning_rate: automatic}",
        ["training.learning_rate", "'automatic'", "auto, or a finite number above 0"],
    ),
    "learning rate of a phase in words": (
        "strategies: [{name: x, phases: [{train: all, learning_rate: best}]}]",
        ["strategies[0].phases[0].learning_rate", "'best'", "auto"],
    ),
    "true for a learning rate": ("training: {learning_rate: true}", ["training.learning_rate", "True", "auto"]),
    "a search of one rate": (
        "training: {learning_rate_search: {values: 1}}",
        ["training.learning_rate_search.values", "1", "at least 3"],
    ),
    "unknown key of the search": (
        "training: {learning_rate_search: {epoch: 1}}",
        ["training.learning_rate_search.epoch", "did you mean 'epochs'"],
    ),
    "no room for a cache": ("cache_limit_gb: 0", ["cache_limit_gb", "0", "a number above 0"]),
    "cache without a limit": ("cache_limit_gb: .inf", ["cache_limit_gb", "inf", "at most"]),
    "cache limit in words": ("cache_limit_gb: 50 GB", ["cache_limit_gb", "'50 GB'", "a number"]),
    "negative price": ("price_per_hour_usd: {local: -1}", ["price_per_hour_usd.local", "-1", "at least 0"]),
    "unknown strategy": ("strategies: [fine-tunning]", ["strategies", "fine-tunning", "fine-tune"]),
    "unknown optimizer": ("training: {optimizer: adamax}", ["training.optimizer", "adamax", "'adam'", "'sgd'"]),
    "unknown policy": (
        "datasets: [{name: a, source: digits, augmentation: heavy}]",
        ["datasets[0].augmentation", "heavy", "trivialaugment"],
    ),
    "duplicate seeds": ("seeds: [1, 2, 1]", ["seeds", "1 is there twice"]),
    "duplicate datasets": ("datasets: [{name: a, source: digits}, {name: a, source: digits}]", ["datasets", "'a'"]),
    "duplicate models": ("models: [resnet8, resnet8]", ["models", "'resnet8' is there twice"]),
    "duplicate sizes": (
        "datasets: [{name: a, source: digits, train_sizes: [10, 10]}]",
        ["datasets[0].train_sizes", "10 is there twice"],
    ),
    "weights files of one name": ("weights: [a/w.pth, b/w.pth]", ["weights", "'w.pth' is there twice"]),
    "name with a slash": ("name: a/b", ["name", "'a/b'"]),
    "name that leaves the folder": ("name: '..'", ["name", "'..'"]),
    "train size 0": ("datasets: [{name: a, source: digits, train_sizes: [0]}]", ["train_sizes[0]", "0", "all"]),
    "image size too small to be one": ("datasets: [{name: a, source: digits, image_size: 1}]", ["image_size", "8"]),
    "reduction factor": ("scheduler: {asha: {reduction_factor: 1}}", ["scheduler.asha.reduction_factor", "1", "2"]),
    "unknown scheduler": ("scheduler: median", ["scheduler", "'median'", "none", "asha"]),
    "more than one GPU with a fraction": ("resources: {gpu: 1.5}", ["resources.gpu", "1.5", "whole number"]),
    "negative GPU": ("resources: {gpu: -1}", ["resources.gpu", "-1", "auto"]),
    "cpu 0": ("resources: {cpu: 0}", ["resources.cpu", "0", "auto"]),
    "cpu in words": ("resources: {cpu: all}", ["resources.cpu", "all", "auto"]),
    "no worker": ("resources: {workers_per_trial: 0}", ["resources.workers_per_trial", "0", "at least 1"]),
    "half a worker": ("resources: {workers_per_trial: 1.5}", ["resources.workers_per_trial", "1.5", "a whole number"]),
    "workers on parts of a GPU": (
        "resources: {workers_per_trial: 2, gpu: 0.5}",
        ["resources.gpu", "0.5", "workers_per_trial: 2", "a whole number, 0 or auto"],
    ),
    "more workers than images in a batch": (
        "resources: {workers_per_trial: 4}\ntraining: {batch_size: 3}",
        ["training.batch_size", "3", "workers_per_trial", "at least 4"],
    ),
    "workers that cannot normalise together": (
        "resources: {workers_per_trial: 2, gpu: 0}\ntraining: {sync_batchnorm: true}",
        ["training.sync_batchnorm", "CPUs", "give false"],
    ),
    "empty list": ("models: []", ["models", "at least 1"]),
    "scalar for a list": ("models: resnet8", ["models", "a list"]),
    "negative seed": ("seeds: [-1]", ["seeds[0]", "-1", "at least 0"]),
    "true for a seed": ("seeds: [true]", ["seeds[0]", "True", "a whole number"]),
    "null": ("datasets: null", ["datasets", "None"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_is_named_with_file_key_value_and_what_is_accepted(case: str, tmp_path: Path) -> None:
    line, parts = BAD[case]
    key = line.split(":", 1)[0]
    kept = [text for text in MINIMAL.strip().splitlines() if not text.startswith(f"{key}:")]
    path = write(tmp_path, "\n".join([*kept, line]) + "\n")
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for part in parts:
        assert part in message
    assert "\n" not in message, "one mistake gives one line"


MALFORMED = {
    "a tab": "name:\n\t- x",
    "unclosed bracket": "name: [a",
    "a repeated key": "name: a\nname: b",
    "an alias bomb": "a: &a [x, x]\nb: [*a, *a]",
    "a tag that would run code": "name: !!python/object/apply:os.system ['true']",
    "a list": "- a",
    "nothing": "",
    "a number as key": "1: 2",
    "control characters": "name: \x00",
    "nested without end": "a: " + "[" * 3000,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_yaml_is_one_line_that_names_the_file(case: str, tmp_path: Path) -> None:
    path = write(tmp_path, MALFORMED[case])
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no such file"):
        load_experiment(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "override", ["epochs", "=3", "training..epochs=3", "datasets.7.name=x", "name.first=x", "models.x=1", "name=[1"]
)
def test_a_bad_override_is_named(override: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        load_experiment(write(tmp_path, MINIMAL), [override])
    assert f"--set {override}" in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_value_of_any_key_escapes_the_error(value: object) -> None:
    for key in ("name", "datasets", "models", "training", "scheduler", "resources", "seeds", "strategies"):
        data = {**parse_yaml(MINIMAL, "x"), key: value}
        try:
            parse_experiment(data, "x")
        except ExperimentError as error:
            assert str(error).startswith("x: ")  # noqa: PT017 - accepted values raise nothing


def test_an_override_creates_the_parts_on_its_way() -> None:
    data: dict[str, object] = {}
    apply_override(data, "scheduler.asha.grace_period=2")
    assert data == {"scheduler": {"asha": {"grace_period": 2}}}


def test_the_schema_names_every_key_and_accepts_names_for_models() -> None:
    schema = json_schema()
    assert {"name", "datasets", "models", "weights", "strategies", "seeds"} <= set(schema["properties"])
    assert {"type": "string"} in schema["properties"]["models"]["items"]["anyOf"]
    assert schema["required"] == ["name", "datasets", "models", "strategies"]


def test_the_schema_accepts_a_number_or_auto_for_a_learning_rate() -> None:
    for part in ("TrainingConfig", "PhaseConfig"):
        accepted = json_schema()["$defs"][part]["properties"]["learning_rate"]["anyOf"]
        assert {"const": "auto", "type": "string"} in accepted
        assert any(kind.get("type") == "number" for kind in accepted)


def test_a_search_tries_five_rates_unless_told_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert load_experiment(path, ["training.learning_rate=auto"]).search_budget() == SearchBudget(values=5, epochs=None)
    budget = load_experiment(path, ["training.learning_rate_search={values: 4, epochs: 9}"]).search_budget()
    assert budget == SearchBudget(values=4, epochs=9)


@pytest.mark.parametrize("rate", ["3e-4", "auto"])
def test_a_loaded_experiment_survives_yaml_and_back(rate: str, tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, MINIMAL), [f"training.learning_rate={rate}"])
    again = parse_experiment(yaml.safe_load(yaml.safe_dump(experiment.model_dump(mode="json"))), "again")
    assert again == experiment
