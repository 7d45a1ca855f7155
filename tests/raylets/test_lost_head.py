"""The head of a cluster is lost while a run goes on: it ends soon, with one message, and goes on with a new head."""

import subprocess
import sys
from pathlib import Path

import pytest

from raybench.ledger import load, summary
from raybench.results import load_results
from tests.cluster.hosts import wait_until
from tests.raylets.heads import free_port, started_head

pytestmark = pytest.mark.minutes

EXPERIMENT = """
name: lost
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [100]}]
models: [resnet8]
strategies: [fine-tune]
seeds: [0, 1, 2]
training: {epochs: 80, patience: 80}
scheduler: none
resources: {measure: false, cpu: 1}
"""
SOON_SECONDS = 58
"""Ray would say nothing for a minute, and then end the process in its own words."""


def is_in_second_trial(run_dir: Path) -> bool:
    ended = {path.stem for path in (run_dir / "results").glob("*.parquet")}
    begun = {path.stem for path in (run_dir / "checkpoints").glob("[!.]*.pt")}
    return bool(ended) and bool(begun - ended)


def test_a_lost_head_is_told_soon_and_a_new_one_goes_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (tmp_path_factory.mktemp("r") for _ in range(2))
    for name, value in {"RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "lost.yaml").write_text(EXPERIMENT)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "raybench",
        "run",
        "lost.yaml",
        "--address",
        f"127.0.0.1:{port}",
        "--run-dir",
        "run",
    ]
    with (tmp_path / "said").open("w") as said:
        with started_head(first, port, "--num-cpus=1", variables={"RAY_AUTH_MODE": "disabled"}):
            driver = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said)
            wait_until(lambda: is_in_second_trial(tmp_path / "run"), "a second trial", seconds=120)
        try:
            driver.wait(SOON_SECONDS)
        finally:
            driver.kill()
    text = (tmp_path / "said").read_text()
    assert driver.returncode == 2, text
    assert "Traceback" not in text
    assert f":{port} asks for no token: whoever reaches that port can run code on its machines" in text
    assert f":{port} does not answer; the run ends if that lasts for 45 s\n" in text
    assert "\nraybench: the head of the cluster at " in text
    assert f":{port} is gone; what was finished is kept: once a head is there again, run it again to go on\n" in text
    assert len(load_results(tmp_path / "run")) >= 1
    ledger = load(tmp_path / "run")
    seconds = ledger.groupby("kind")["device_seconds"].sum()
    assert summary(ledger).residual_share < 0.02, seconds
    assert seconds["lost attempts"] > 45, "what the second trial held until the run ended"
    with started_head(second, port, "--num-cpus=1", variables={"RAY_AUTH_MODE": "disabled"}):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(load_results(tmp_path / "run")["status"]) == {"completed"}
    assert len(load_results(tmp_path / "run")) == 3
