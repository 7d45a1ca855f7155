"""What the environment holds stays there: no key of it is in a run's files, in what is printed, or in a report."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import COMMAND

pytestmark = pytest.mark.minutes

MARK = "hunter2-of-a-test"
SECRETS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET", "GITHUB_TOKEN"),
    *("GOOGLE_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLFLOW_TRACKING_PASSWORD", "OPENAI_API_KEY"),
    *("WANDB_API_KEY", "DATABASE_URL", "MY_OWN_SECRET"),
)
EXPERIMENT = """
name: secret
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]
models: ["network_of_a_test:Own"]
strategies: [fine-tune]
training: {epochs: 1}
resources: {measure: false}
"""
NETWORK = """
from torch import nn


class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(144, num_classes)

    def forward(self, images):
        return self.head(self.body(images).flatten(1))
"""
FAULTY = (
    NETWORK
    + """

class Faulty(Own):
    def forward(self, images):
        if self.training:
            raise RuntimeError("the fault of a test")
        return super().forward(images)
"""
)


def environment_of(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        **{name: f"{MARK}-{name}" for name in SECRETS},
        "PYTHONPATH": str(folder),
        "RAYBENCH_CACHE_DIR": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def say(*arguments: str, folder: Path) -> str:
    """Run a command with secrets in its environment and return all that it says."""
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, env=environment_of(folder), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.stdout + done.stderr


def test_nothing_of_the_environment_is_kept_or_printed(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(EXPERIMENT)
    (tmp_path / "network_of_a_test.py").write_text(FAULTY)
    models = "models=['network_of_a_test:Own', 'network_of_a_test:Faulty']"
    said = [
        say("run", "secret.yaml", "--num-cpus", "1", "--set", models, folder=tmp_path),
        say("plan", "secret.yaml", "--num-cpus", "1", "--measure", "--run-dir", "quoted", folder=tmp_path),
        say("report", "runs/secret", "--output", "report.html", folder=tmp_path),
        say("doctor", folder=tmp_path),
    ]
    assert "the fault of a test" in said[0]
    assert (tmp_path / "report.html").stat().st_size > 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"manifest.json", "ledger.jsonl", "quote.json", "report.html"} <= {path.name for path in files}
    assert [path for path in files if MARK.encode() in path.read_bytes()] == []
    assert not any(MARK in text for text in said)


def test_the_mark_of_these_tests_is_in_the_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['HF_TOKEN'])"]
    done = subprocess.run(command, env=environment_of(tmp_path), capture_output=True, text=True, check=True)
    assert MARK in done.stdout
