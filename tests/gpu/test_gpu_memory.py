"""Memory on the GPU at hand: what trials were expected to take, and one that runs out of its part.

They are left out where torch sees no GPU.
"""

from pathlib import Path

import pytest
import torch

from raybench import load_history, load_results
from tests.commands import raybench

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

GREEDY = """
name: greedy
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [64]}]
models: ["networks_for_a_gpu:Greedy", "networks_for_a_gpu:Modest"]
strategies: [fine-tune]
seeds: [0, 1]
training: {epochs: 6, patience: 6, batch_size: 8}
scheduler: none
resources: {gpu: 0.25, cpu: 1, measure: false}
"""
NETWORKS = '''
"""Networks of which one takes 30 % of the GPU's memory from its fourth epoch on."""

import time

import torch
from torch import nn


class Modest(nn.Module):
    share = 0.0

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU())
        self.head = nn.Linear(16, num_classes)
        self.batches = 0
        self.taken = None

    def forward(self, images):
        if self.training:
            time.sleep(0.05)
            self.batches += 1
            if self.batches > 24 and self.share and self.taken is None:
                whole = torch.cuda.get_device_properties(0).total_memory
                self.taken = torch.empty(int(self.share * whole), dtype=torch.uint8, device="cuda")
        return self.head(self.body(images))


class Greedy(Modest):
    share = 0.3
'''
PREDICTED = """
name: predicted
datasets: [{name: digits, source: digits, image_size: 64, train_sizes: [200]}]
models: [resnet18, resnet50, alexnet]
strategies: [linear-probe, fine-tune]
training: {epochs: 2, patience: 2, batch_size: 32}
scheduler: none
"""


def test_a_trial_that_runs_out_of_its_part_goes_on_with_twice_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "greedy.yaml").write_text(GREEDY)
    (tmp_path / "networks_for_a_gpu.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert raybench("run", "greedy.yaml", "--run-dir", "run") == 0
    rows = load_results(tmp_path / "run").set_index(["model", "seed"]).sort_index()
    assert set(rows["status"]) == {"completed"}
    assert rows["retries"].to_dict() == {
        ("networks_for_a_gpu:Greedy", 0): 1,
        ("networks_for_a_gpu:Greedy", 1): 1,
        ("networks_for_a_gpu:Modest", 0): 0,
        ("networks_for_a_gpu:Modest", 1): 0,
    }
    assert load_history(tmp_path / "run").groupby("trial_id").size().tolist() == [6] * 4


def test_what_trials_take_was_expected(tmp_path: Path) -> None:
    (tmp_path / "predicted.yaml").write_text(PREDICTED)
    assert raybench("run", tmp_path / "predicted.yaml", "--run-dir", tmp_path / "run", "--quiet") == 0
    rows = load_results(tmp_path / "run").set_index(["model", "strategy"])
    assert set(rows["status"]) == {"completed"}
    ratios = (rows["predicted_memory_bytes"] / rows["peak_memory_bytes"]).astype(float)
    assert ratios.between(0.8, 1.25).all(), rows[["predicted_memory_bytes", "peak_memory_bytes"]].to_string()
