"""A linear probe that several trials begin with is trained once, and nobody can tell."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raybench.checkpoint_paths import weights_path
from raybench.records import Allocation, EpochRecord, Status, Strategy, Trial, TrialResult, Verdict
from raybench.results import load_history, load_predictions, read_trial
from raybench.training.execute import run
from raybench.training.first_phase import shared_first_phase
from raybench.training.weight_files import read_tensors
from tests.builders import PHASE, make_trial

ALLOCATION = Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=1)
HEAD = replace(PHASE, train="head", learning_rate=0.01, epochs=4, patience=4)
ALL = replace(PHASE, epochs=2, patience=2)
SECONDS = ("train_seconds", "feature_seconds")
OF_THE_RUN = ("wall_seconds", "build_seconds", "started_at", "finished_at", "peak_memory_bytes")

HOLDER = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def probe(*, head: Any = HEAD, augmentation: str = "none", seed: int = 0, shared: bool = True) -> Trial:  # noqa: ANN401 - a phase
    return trial(f"probe{seed}", head, augmentation=augmentation, seed=seed, shared=shared)


def probe_and_all(*, head: Any = HEAD, augmentation: str = "none", seed: int = 0, shared: bool = True) -> Trial:  # noqa: ANN401 - a phase
    return trial(f"both{seed}", head, ALL, augmentation=augmentation, seed=seed, shared=shared)


def trial(trial_id: str, *phases: Any, augmentation: str, seed: int, shared: bool) -> Trial:  # noqa: ANN401 - phases
    return make_trial(
        trial_id,
        strategy=Strategy(name="mine", augmentation=augmentation, phases=phases),
        train_size=90,
        seed=seed,
        first_phase_id=f"probe{seed}" if shared else None,
    )


def trained(what: Trial, run_dir: Path, **changes: Any) -> TrialResult:  # noqa: ANN401 - arguments of `run`
    return run(what, **{"run_dir": run_dir, "allocation": ALLOCATION, "on_epoch": lambda _: Verdict.GO_ON, **changes})


def stopping_at(epoch: int) -> Any:  # noqa: ANN401 - an OnEpoch
    return lambda record: Verdict.STOP if record.epoch == epoch else Verdict.GO_ON


def dying_at(epoch: int) -> Any:  # noqa: ANN401 - an OnEpoch
    def on_epoch(record: EpochRecord) -> Verdict:
        if record.epoch == epoch:
            raise SystemExit
        return Verdict.GO_ON

    return on_epoch


def seconds(run_dir: Path, what: Trial, phase: int = 1) -> list[float]:
    history = load_history(run_dir, only=[what.trial_id])
    return list(history[history["phase"] == phase]["epoch_seconds"])


def phase_files(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").glob("*.phase.*"))


def assert_same_numbers(what: Trial, one: Path, other: Path) -> None:
    """Rows, epochs, predictions and weights, to the last bit; only time may differ."""
    rows = [read_trial(run_dir, what.trial_id) for run_dir in (one, other)]
    comparable = [
        {name: value for name, value in asdict(row).items() if name not in (*SECONDS, *OF_THE_RUN)}
        for row in rows
        if row is not None
    ]
    assert comparable[0] == comparable[1]
    histories = [load_history(run_dir, only=[what.trial_id]) for run_dir in (one, other)]
    assert all(history.pop("epoch_seconds").gt(0).all() for history in histories)
    assert all(history.pop("images_per_second").gt(0).all() for history in histories)
    assert histories[0].equals(histories[1])
    predictions = [load_predictions(run_dir, only=[what.trial_id]) for run_dir in (one, other)]
    first, second = (np.stack(list(each["probabilities"])) for each in predictions)
    np.testing.assert_array_equal(first, second)
    left, right = (read_tensors(weights_path(run_dir, what.trial_id)) for run_dir in (one, other))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("augmentation", ["none", "no-flip"])
@pytest.mark.parametrize("probe_first", [True, False])
def test_numbers_are_those_of_trials_that_share_nothing(augmentation: str, probe_first: bool, tmp_path: Path) -> None:
    alone = [each(augmentation=augmentation, shared=False) for each in (probe, probe_and_all)]
    shared = [each(augmentation=augmentation) for each in (probe, probe_and_all)]
    for each in alone:
        trained(each, tmp_path / "alone")
    for each in shared if probe_first else reversed(shared):
        trained(each, tmp_path / "shared")

    for each in alone:
        assert_same_numbers(each, tmp_path / "alone", tmp_path / "shared")
    assert seconds(tmp_path / "shared", shared[0]) == seconds(tmp_path / "shared", shared[1]), "one training"
    assert seconds(tmp_path / "alone", shared[0]) != seconds(tmp_path / "alone", shared[1]), "two trainings"
    assert phase_files(tmp_path / "shared") == ["probe0.phase.safetensors"]
    assert phase_files(tmp_path / "alone") == []


def test_the_epochs_taken_over_are_told_and_cost_what_they_took(tmp_path: Path) -> None:
    told: list[EpochRecord] = []
    trained(probe(), tmp_path)

    def listen(record: EpochRecord) -> Verdict:
        told.append(record)
        return Verdict.GO_ON

    result = trained(probe_and_all(), tmp_path, on_epoch=listen)

    assert [(record.trial_id, record.phase, record.epoch) for record in told] == [
        ("both0", phase, epoch) for phase, epoch in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6))
    ]
    assert result.train_seconds == pytest.approx(sum(record.epoch_seconds for record in told))


def test_each_seed_has_a_first_phase_of_its_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        trained(probe(seed=seed), tmp_path)
        trained(probe_and_all(seed=seed), tmp_path)
        assert seconds(tmp_path, probe(seed=seed)) == seconds(tmp_path, probe_and_all(seed=seed))
    assert seconds(tmp_path, probe(seed=0)) != seconds(tmp_path, probe(seed=1))


def test_a_phase_that_patience_ended_is_shared_too(tmp_path: Path) -> None:
    wild = replace(HEAD, optimizer="sgd", learning_rate=30.0, epochs=20, patience=2)
    trained(probe(head=wild), tmp_path)
    trained(probe_and_all(head=wild), tmp_path)

    assert len(seconds(tmp_path, probe())) < 20
    assert seconds(tmp_path, probe()) == seconds(tmp_path, probe_and_all())


def test_a_stopped_probe_leaves_no_phase_and_the_next_trial_trains_it(tmp_path: Path) -> None:
    stopped = trained(probe(), tmp_path, on_epoch=stopping_at(2))
    assert stopped.status is Status.STOPPED
    assert phase_files(tmp_path) == []

    trained(probe_and_all(), tmp_path)

    assert phase_files(tmp_path) == ["probe0.phase.safetensors"]
    assert seconds(tmp_path, probe_and_all())[:2] != seconds(tmp_path, probe())


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_probe_stopped_within_epochs_it_took_over_is_scored_as_if_it_had_trained_them(
    epoch: int, tmp_path: Path
) -> None:
    trained(probe(shared=False), tmp_path / "alone", on_epoch=stopping_at(epoch))
    trained(probe_and_all(), tmp_path / "shared")

    result = trained(probe(), tmp_path / "shared", on_epoch=stopping_at(epoch))

    assert result.status is Status.STOPPED
    assert result.epochs_run == epoch
    assert_same_numbers(probe(), tmp_path / "alone", tmp_path / "shared")


@pytest.mark.parametrize("died_at", [2, 5])
def test_a_trial_that_dies_frees_the_phase_and_resumes_to_the_same_numbers(died_at: int, tmp_path: Path) -> None:
    trained(probe_and_all(shared=False), tmp_path / "alone")
    with pytest.raises(SystemExit):
        trained(probe_and_all(), tmp_path / "shared", on_epoch=dying_at(died_at), checkpoint_seconds=0.0)

    trained(probe(), tmp_path / "shared")
    trained(probe_and_all(), tmp_path / "shared")

    assert_same_numbers(probe_and_all(), tmp_path / "alone", tmp_path / "shared")
    assert seconds(tmp_path / "shared", probe()) == seconds(tmp_path / "shared", probe_and_all())


@pytest.mark.parametrize("damage", ["other machine", "half written"])
def test_a_phase_that_does_not_fit_is_trained_again(damage: str, tmp_path: Path) -> None:
    trained(probe(), tmp_path)
    path = tmp_path / "checkpoints" / "probe0.phase.safetensors"
    if damage == "half written":
        path.write_bytes(path.read_bytes()[:-100])

    allocation = replace(ALLOCATION, instance_type="g5.xlarge" if damage == "other machine" else None)
    trained(probe_and_all(), tmp_path, allocation=allocation)

    assert seconds(tmp_path, probe()) != seconds(tmp_path, probe_and_all())


def test_whoever_waits_gets_the_phase_once_it_has_ended(tmp_path: Path) -> None:
    state = {"model": {"fc.bias": torch.ones(3)}, "progress": {"epoch": 1}, "history": [{"trial_id": "probe0"}]}
    with ThreadPoolExecutor() as pool, shared_first_phase(tmp_path, probe(), {}) as holder:
        assert holder.take_over() is None
        with shared_first_phase(tmp_path, probe_and_all(), {}) as waiting:
            found = pool.submit(waiting.take_over)
            holder.leave(state)
            taken = found.result()
    assert taken is not None
    assert torch.equal(taken.pop("model")["fc.bias"], torch.ones(3))
    assert taken == {"progress": {"epoch": 1}, "history": [{"trial_id": "both0"}]}


def test_whoever_waits_trains_the_phase_once_its_holder_is_killed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    lock = tmp_path / "checkpoints" / "probe0.phase.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with ThreadPoolExecutor() as pool, shared_first_phase(tmp_path, probe(), {}) as waiting:
        found = pool.submit(waiting.take_over)
        holder.kill()
        holder.communicate()
        assert found.result() is None
