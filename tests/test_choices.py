"""What is chosen by measuring, and where it is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from raybench.choices import Choices, Step, processor_name, recall, remember, step_key
from raybench.experiment import parse_experiment
from raybench.manifest import MANIFEST, chosen_before, read_manifest, write_manifest
from raybench.records import Facts, ModelSpec, Tuning
from tests.builders import DIGITS, SETTINGS, TRIAL, make_trial

ABOUT: dict[str, str | int | float] = {"what": "step", "on": "some processor", "threads": 2}
EXPERIMENT = {
    "name": "e",
    "datasets": [{"name": "d", "source": "digits"}],
    "models": ["m"],
    "strategies": ["fine-tune"],
}
CHOICES = Choices(
    cpu_per_trial=1.5,
    gpu_per_trial=0.0,
    threads_per_trial=1,
    measured_on="some processor",
    steps={"some processor": {"m, 16 px": Step(tuning=Tuning(channels_last=True), images_per_second=12.5)}},
)


def test_a_step_is_the_same_whatever_the_data_the_weights_and_the_strategy() -> None:
    key = step_key(TRIAL)
    assert key == "resnet8, 16 px, batch 32, float32"
    assert step_key(make_trial("other", train_size=5, seed=3, weights="packaged")) == key
    for other in (
        make_trial(model="resnet20"),
        make_trial(dataset=replace(DIGITS, image_size=32)),
        make_trial(training=replace(SETTINGS, batch_size=16)),
        make_trial(training=replace(SETTINGS, precision="auto")),
        make_trial(training=replace(SETTINGS, deterministic=False)),
    ):
        assert step_key(other) != key
    assert step_key(replace(TRIAL, model=ModelSpec(name="resnet8", head="fc"))) == key


def test_what_was_measured_is_found_again_by_what_it_was_of(tmp_path: Path) -> None:
    assert recall(ABOUT, tmp_path) is None
    remember(ABOUT, {"1": 2.5}, tmp_path)
    assert recall(dict(reversed(ABOUT.items())), tmp_path) == {"1": 2.5}
    assert recall({**ABOUT, "threads": 1}, tmp_path) is None
    remember(ABOUT, [3], tmp_path)
    assert recall(ABOUT, tmp_path) == [3]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"about": {}, "value": 1}', "\0"])
def test_a_damaged_file_is_measured_again(tmp_path: Path, content: str) -> None:
    remember(ABOUT, 1, tmp_path)
    (path,) = (tmp_path / "measured").iterdir()
    path.write_text(content)
    assert recall(ABOUT, tmp_path) is None


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "measured").write_text("a file in the way")
    remember(ABOUT, 1, tmp_path)
    assert recall(ABOUT, tmp_path) is None


def test_a_run_keeps_what_it_chose(tmp_path: Path) -> None:
    write_manifest(tmp_path, parse_experiment(EXPERIMENT, "e.yaml"), Facts(), CHOICES)
    assert chosen_before(tmp_path) == read_manifest(tmp_path).chosen == CHOICES


def test_a_manifest_of_an_earlier_raybench_chose_threads_alone(tmp_path: Path) -> None:
    write_manifest(tmp_path, parse_experiment(EXPERIMENT, "e.yaml"), Facts(), CHOICES)
    data = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**data, "chosen": {"threads_per_trial": 2}}))
    assert chosen_before(tmp_path) == read_manifest(tmp_path).chosen == Choices(threads_per_trial=2)


def test_a_directory_without_a_readable_manifest_chose_nothing(tmp_path: Path) -> None:
    assert chosen_before(tmp_path) == Choices()
    (tmp_path / MANIFEST).write_text("{")
    assert chosen_before(tmp_path / "absent") == chosen_before(tmp_path) == Choices()


def test_the_processor_has_a_name() -> None:
    assert processor_name().strip()
