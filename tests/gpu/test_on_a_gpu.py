"""Whole runs on the GPU at hand: the same numbers twice, the same answers as on the CPU, and what they took.

They are left out where torch sees no GPU.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch

from raybench import load_results
from raybench.ledger import Kind, load, summary
from raybench.manifest import read_manifest
from raybench.quote import kept
from tests.commands import raybench

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

EXPERIMENT = """
name: digits-on-a-gpu
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [400]}]
models: [resnet8]
weights: [random, packaged]
strategies: [linear-probe, fine-tune, fine-tune+augment]
seeds: [0, 1]
training: {epochs: 4, patience: 4, batch_size: 32, learning_rate: 0.003}
scheduler: none
price_per_hour_usd: {local: 3.6}
"""
METRICS = ["val_accuracy", "val_loss", "test_accuracy", "test_macro_f1", "best_epoch"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu")
    (path / "digits.yaml").write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def automatic(folder: Path) -> Path:
    """Return a run that was quoted first, and chose for itself what share of the GPU a trial gets."""
    run_dir = folder / "automatic"
    assert raybench("plan", folder / "digits.yaml", "--run-dir", run_dir, "--measure") == 0
    assert raybench("run", folder / "digits.yaml", "--run-dir", run_dir, "--quiet") == 0
    return run_dir


@pytest.fixture(scope="module")
def halves(folder: Path) -> Path:
    run_dir = folder / "halves"
    assert raybench("run", folder / "digits.yaml", "--run-dir", run_dir, "--quiet", "--set", "resources.gpu=0.5") == 0
    return run_dir


@pytest.fixture(scope="module")
def on_cpu(folder: Path) -> Path:
    run_dir = folder / "cpu"
    assert raybench("run", folder / "digits.yaml", "--run-dir", run_dir, "--quiet", "--set", "resources.gpu=0") == 0
    return run_dir


def by_id(run_dir: Path) -> pd.DataFrame:
    return load_results(run_dir).set_index("trial_id").sort_index()


def test_every_trial_ends_on_the_gpu_that_it_names(automatic: Path) -> None:
    rows = by_id(automatic)
    assert (rows["status"] == "completed").all()
    assert set(rows["accelerator"]) == {torch.cuda.get_device_name(0)}
    assert (rows["peak_memory_bytes"] > 0).all()


def test_shares_of_a_gpu_change_no_number(automatic: Path, halves: Path) -> None:
    """Trials are repeatable whatever runs beside them."""
    one, two = by_id(automatic), by_id(halves)
    pd.testing.assert_frame_equal(one[METRICS], two[METRICS], check_exact=True)


def test_several_trials_share_the_gpu_by_default(automatic: Path) -> None:
    share = read_manifest(automatic).chosen.gpu_per_trial
    assert share is not None
    assert 0 < share < 1


def test_a_gpu_and_a_cpu_agree_on_accuracy(automatic: Path, on_cpu: Path) -> None:
    gpu, cpu = by_id(automatic), by_id(on_cpu)
    assert set(cpu["accelerator"]) == {"cpu"}
    assert gpu.index.equals(cpu.index)
    difference = gpu["test_accuracy"] - cpu["test_accuracy"]
    assert abs(difference.mean()) < 0.02
    assert abs(difference).max() < 0.2


def test_what_was_measured_alone_is_filled_and_plausible(automatic: Path) -> None:
    rows = by_id(automatic)
    assert (rows["standalone_seconds"] > 0).all()
    assert (rows["device_share"] == 1).all(), "alone, a trial would hold the whole GPU"
    assert (rows["standalone_cost_usd"] > 0).all()
    assert (rows["inference_images_per_second"] > 1 / rows["inference_latency_seconds"]).all()


def test_the_ledger_of_a_gpu_run_adds_up(automatic: Path) -> None:
    spent = summary(load(automatic))
    assert Kind.COMPLETED in {line.kind for line in spent.lines}
    assert abs(spent.residual_share) < 0.01
    assert kept(automatic) is not None
