"""Images are decoded once a machine, whatever number of trials run there: two machines, each with its own cache."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from raybench.results import load_results

pytestmark = pytest.mark.minutes

MACHINES = ("head", "worker")
WATCH = """
import os, sys
def watch(event, arguments):
    folder, name = str(arguments[1]).split("/")[-2:] if event == "os.rename" else ("", "")
    if folder == "images" and not name.startswith("."):  # else it is thrown away
        with open(os.environ["RENAMED"], "a") as file:
            file.write(f"{arguments[1]}\\n")
sys.addaudithook(watch)
"""
"""Notes what becomes an entry of the cache of images, as a machine's Python tells whoever listens."""
EXPERIMENT = """
name: eight
datasets: [{name: squares, source: "imagefolder:squares", image_size: 16, train_sizes: [all]}]
models: [resnet8, resnet20]
strategies: [fine-tune]
seeds: [0, 1, 2, 3]
training: {epochs: 1}
scheduler: none
resources: {cpu: 1, measure: false}
"""


def write_squares(folder: Path) -> None:
    random = np.random.default_rng(0)
    for split, images in (("train", 40), ("val", 12), ("test", 12)):
        for label in ("light", "dark"):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 128, (20, 24, 3)) + 127 * (label == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, an experiment, and what is set on each machine."""
    folder = tmp_path_factory.mktemp("eight")
    write_squares(folder / "squares")
    (folder / "eight.yaml").write_text(EXPERIMENT)
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    return folder


def options(ground: Path, machine: str) -> dict[str, Any]:
    return {"num_cpus": 1, "labels": {"raybench/instance": machine}, "env_vars": variables(ground, machine)}


def variables(ground: Path, machine: str) -> dict[str, str]:
    return {
        "RAYBENCH_CACHE_DIR": str(ground / f"cache-{machine}"),
        "RENAMED": str(ground / f"renamed-{machine}"),
        "PYTHONPATH": str(ground / "watch"),
    }


@pytest.fixture(scope="module")
def address(ground: Path) -> Iterator[str]:
    if ray.is_initialized():
        ray.shutdown()
    head, worker = (options(ground, machine) for machine in MACHINES)
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(**worker)
    try:
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def test_two_machines_and_eight_trials_decode_the_images_exactly_twice(ground: Path, address: str) -> None:
    command = [sys.executable, "-m", "raybench", "run", "eight.yaml", "--address", address, "--run-dir", "run"]
    environment = os.environ | variables(ground, "head")
    done = subprocess.run(command, cwd=ground, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = load_results(ground / "run")
    assert len(results) == 8
    assert set(results["instance_type"]) == set(MACHINES), "both took part"
    made = {machine: (ground / f"renamed-{machine}").read_text().splitlines() for machine in MACHINES}
    assert [len(entries) for entries in made.values()] == [1, 1], made
    (here,), (there,) = made.values()
    assert Path(here).name == Path(there).name, "the same images, each on its own machine"
