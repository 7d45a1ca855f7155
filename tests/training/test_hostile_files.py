"""Weights and checkpoints are read without running what they carry; whatever else lies about is never unpickled."""

import io
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import raybench
from raybench.checkpoint_paths import state_path
from raybench.errors import RunError, WeightsError
from raybench.records import Allocation, EpochRecord, Trial, TrialResult, Verdict
from raybench.results import load_history
from raybench.runs import open_run
from raybench.training.checkpoint import Checkpointer
from raybench.training.execute import run
from raybench.training.weight_files import read_tensors
from tests.builders import PHASE, TRIAL, make_trial
from tests.commands import raybench as command
from tests.made_up_run import MadeUp

ALLOCATION = Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=1)
SAME = ("val_loss", "test_loss", "test_accuracy", "best_epoch", "epochs_run", "test_per_class_recall")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


class Touching:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self._file), "w"))


def test_the_pickle_of_these_tests_touches_its_file(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Touching(tmp_path / "touched"))).close()  # noqa: S301 - of this test
    assert (tmp_path / "touched").exists()


def with_torch(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def go_on(_: EpochRecord) -> Verdict:
    return Verdict.GO_ON


def interrupted_at_two(record: EpochRecord) -> Verdict:
    if record.epoch == 2:
        raise SystemExit
    return Verdict.GO_ON


KINDS: dict[str, Callable[[Touching], bytes]] = {
    "a bare pickle": pickle.dumps,
    "saved by torch": lambda touching: with_torch({"stem.weight": touching}),
    "saved by torch in an old way": lambda touching: _legacy({"stem.weight": touching}),
}


def _legacy(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("ending", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_would_run_code_are_refused(kind: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine{ending}"
    path.write_bytes(KINDS[kind](Touching(tmp_path / "touched")))
    with pytest.raises(WeightsError, match=r"mine"):
        read_tensors(path)
    assert not (tmp_path / "touched").exists()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    return run(TRIAL, run_dir=tmp_path_factory.mktemp("undisturbed"), allocation=ALLOCATION, on_epoch=go_on)


def state_of(trial: Trial, folder: Path) -> Path:
    """Train two epochs of a trial, and return its checkpoint."""
    with pytest.raises(SystemExit):
        run(trial, run_dir=folder, allocation=ALLOCATION, on_epoch=interrupted_at_two, checkpoint_seconds=0.0)
    path = state_path(folder, trial.trial_id)
    assert path.is_file()
    return path


def of_another(path: Path) -> None:
    other = make_trial("ba9876543210", replace(PHASE, learning_rate=0.1))
    shutil.copyfile(state_of(other, path.parents[1] / "other"), path)


def of_another_network(path: Path) -> None:
    other = make_trial("ba9876543210", model="resnet20")
    shutil.copyfile(state_of(other, path.parents[1] / "other"), path)


def without(key: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        del state[key]
        torch.save(state, path)

    return spoil


def with_smaller_tensors(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["model"] = {name: tensor[:1] for name, tensor in state["model"].items() if tensor.ndim}
    torch.save(state, path)


SPOILED: dict[str, Callable[[Path], object]] = {
    **{
        kind: lambda path, make=make: path.write_bytes(make(Touching(path.parent / "touched")))  # type: ignore[misc]
        for kind, make in KINDS.items()
    },
    "a list": lambda path: torch.save([1, 2], path),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
    "without its version": without("version"),
    "without its progress": without("progress"),
    "without its tensors": without("model"),
    "without its history": without("history"),
    "smaller tensors": with_smaller_tensors,
    "of another trial": of_another,
    "of another network": of_another_network,
    "text": lambda path: path.write_text("no checkpoint"),
    "nothing": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_trial_begins_again_where_its_checkpoint_is_none_of_its_own(
    spoil: str,
    undisturbed: TrialResult,
    tmp_path: Path,
) -> None:
    path = state_of(TRIAL, tmp_path)
    SPOILED[spoil](path)
    again = run(TRIAL, run_dir=tmp_path, allocation=ALLOCATION, on_epoch=go_on)
    assert [getattr(again, name) for name in SAME] == [getattr(undisturbed, name) for name in SAME]
    assert load_history(tmp_path)["epoch"].tolist() == [1, 2, 3]
    assert not (path.parent / "touched").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_checkpoint_that_is_no_file_is_none(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "state.pt")
    assert Checkpointer(tmp_path / "state.pt").load() is None


def test_nothing_else_in_a_run_directory_is_unpickled(tmp_path: Path) -> None:
    run_dir = MadeUp(images=30).write(tmp_path / "run")
    hostile = pickle.dumps(Touching(tmp_path / "touched"))
    before = raybench.rank(run_dir)
    for name in ("results.pkl", "params.pkl", "results/notes.pkl", "checkpoints/x.pkl", "search/x.pkl", "a.pickle"):
        (run_dir / name).parent.mkdir(exist_ok=True)
        (run_dir / name).write_bytes(hostile)
    pd.testing.assert_frame_equal(raybench.rank(run_dir), before)
    for name in ("quote.json", "ledger.jsonl", "ledger.json", "manifest.json", "experiment.yaml"):
        (run_dir / name).write_bytes(hostile)
        assert command("show", run_dir) in {0, 2}
    assert not (tmp_path / "touched").exists()


LOADERS = {
    "results": raybench.load_results,
    "predictions": raybench.load_predictions,
    "history": raybench.load_history,
}


@pytest.mark.parametrize("folder", LOADERS)
def test_rows_that_are_a_pickle_or_hold_one_are_refused(folder: str, tmp_path: Path) -> None:
    run_dir = MadeUp(images=30).write(tmp_path / "run")
    trial_id = open_run(run_dir).trials[0].trial_id
    path = run_dir / folder / f"{trial_id}.parquet"
    hostile = pickle.dumps(Touching(tmp_path / "touched"))
    path.write_bytes(hostile)
    with pytest.raises(RunError, match="cannot be read as Parquet"):
        LOADERS[folder](run_dir)
    kind = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": hostile}
    names = ["trial_id", "schema_version", "error"]
    types = [
        pa.field(names[0], pa.string()),
        pa.field(names[1], pa.int64()),
        pa.field(names[2], pa.binary(), True, kind),
    ]
    pq.write_table(pa.table([[trial_id], [1], [hostile]], schema=pa.schema(types)), path)
    with pytest.raises(RunError, match="cannot be read as Parquet"):
        LOADERS[folder](run_dir)
    assert not (tmp_path / "touched").exists()


def test_pickles_in_results_of_ray_tune_are_never_opened(tmp_path: Path) -> None:
    hostile = pickle.dumps(Touching(tmp_path / "touched"))
    for place, accuracy in enumerate((0.7, 0.8)):
        trial = tmp_path / "study" / f"trial_{place}"
        trial.mkdir(parents=True)
        (trial / "params.json").write_text(f'{{"model": "net{place}"}}')
        (trial / "result.json").write_text(f'{{"val_accuracy": {accuracy}, "training_iteration": 1}}\n')
        (trial / "params.pkl").write_bytes(hostile)
    for name in ("tuner.pkl", "trainer.pkl", "searcher-state.pkl", "experiment_state-2026.json", "params.pkl"):
        (tmp_path / "study" / name).write_bytes(hostile)
    assert raybench.rank(tmp_path / "study")["model"].tolist() == ["net1", "net0"]
    for name in ("result.json", "params.json"):
        (tmp_path / "study/trial_0" / name).write_bytes(hostile)
    assert raybench.rank(tmp_path / "study")["model"].tolist()[0] == "net1"
    assert not (tmp_path / "touched").exists()
