"""What trackers are told, with real Ray and TensorBoard's own files."""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

from raybench import mirror
from raybench.errors import InputError
from raybench.mirror import bring_all, run_folder
from raybench.records import EpochRecord, ResourceRequest
from raybench.scheduling.cluster import ray_session
from raybench.scheduling.driver import Problems
from raybench.scheduling.loggers import PACKAGES, Trackers, check_trackers
from raybench.scheduling.settings import Settings
from raybench.scheduling.trainable import EPOCH, EpochNews
from raybench.scheduling.tune import run_trials
from tests.scheduling.fakes import EXECUTE, Script, make_trial, write_scripts
from tests.stores import object_store


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    with ray_session(num_cpus=1, num_gpus=0):
        yield


def events(folder: Path) -> Iterator[Event]:
    """Yield the events of a folder: records of a length, its checksum, the event and its checksum."""
    for path in folder.glob("events.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_gets_every_epoch_and_the_score_of_each_trial_by_what_it_is(tmp_path: Path) -> None:
    write_scripts(tmp_path, {"good": Script(losses=(1.0, 0.5)), "cursed": Script(losses=(1.0, 0.9), raises=True)})
    trials = [make_trial("good", epochs=(2,)), make_trial("cursed", epochs=(2,))]
    settings = Settings(
        asha=None,
        resources=ResourceRequest(gpu=0, cpu=1),
        execute=EXECUTE,
        log_to=("tensorboard",),
        experiment="an experiment",
    )
    outcome = run_trials(trials, run_dir=tmp_path, settings=settings, on_event=lambda _: None)
    assert outcome.problems == ()
    good = scalars(tmp_path / "trackers" / "good")
    assert good["ray/tune/val_loss"] == [(1, 1.0), (2, 0.5)]
    ((step, accuracy),) = good["ray/tune/test_accuracy"]
    assert step == 2
    assert accuracy == pytest.approx(1 / 1.5)
    cursed = scalars(tmp_path / "trackers" / "cursed")
    assert cursed["ray/tune/val_loss"] == [(1, 1.0)]
    assert "ray/tune/test_accuracy" not in cursed
    text = b"".join(path.read_bytes() for path in (tmp_path / "trackers" / "good").glob("events.*"))
    assert b"train_size" in text, "hyperparameters name the configuration"


def test_what_trackers_write_goes_to_the_object_store_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(mirror, "SETTLED_SECONDS", -10)
    record = EpochRecord(
        trial_id="good",
        phase=1,
        epoch=1,
        train_loss=1.0,
        train_accuracy=0.5,
        val_loss=0.5,
        val_accuracy=0.5,
        learning_rate=0.1,
        epoch_seconds=1.0,
        images_per_second=1.0,
    )
    trial: Any = SimpleNamespace(config={"trial": "good"})
    with object_store(monkeypatch) as uri:
        run_dir, problems = run_folder(f"{uri}/logged"), Problems()
        trackers = Trackers(
            ["tensorboard"],
            experiment="logged",
            run_dir=run_dir,
            trials={"good": make_trial("good")},
            problems=problems,
        )
        with trackers.open():
            trackers.on_trial_start(0, [], trial)
            trackers.on_trial_result(
                0, [], trial, {EPOCH: EpochNews(record=record, last_phase_epoch=1, best_val_loss=0.5)}
            )
        bring_all(run_dir)  # takes away what the store does not hold
        assert scalars(run_dir / "trackers" / "good")["ray/tune/val_loss"] == [(1, 0.5)]
    assert problems.texts() == ()


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_before_anything_starts() -> None:
    with pytest.raises(InputError, match="--log-to: 'excel' is not known; give tensorboard, mlflow, wandb"):
        check_trackers(["excel"])
    check_trackers(["tensorboard"])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "wandb", "a_package_that_nobody_has")
    with pytest.raises(InputError, match="pip install a_package_that_nobody_has"):
        check_trackers(["wandb"])
