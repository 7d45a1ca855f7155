"""What a trial is expected to take of memory, against what it takes: each in a process that has run nothing else."""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from raybench.records import Allocation, Trial, Tuning, Verdict
from tests.builders import PHASE, TRIAL, make_trial

pytestmark = pytest.mark.minutes

WITHIN: Final = 0.2
BATCH: Final = 32
FEW: Final = 16
"""Half of a batch, from which the whole one is expected."""
ALLOCATION: Final = Allocation(cpu_share=0.5, gpu_fraction=0.0, threads=1)
TRIALS: Final = {
    "resnet18 head": ("resnet18", "head", 64),
    "resnet18 all": ("resnet18", "all", 48),
    "resnet50 head": ("resnet50", "head", 48),
    "resnet50 all": ("resnet50", "all", 48),
    "alexnet head": ("alexnet", "head", 64),
    "alexnet all": ("alexnet", "all", 64),
}
"""Model, layers that learn, and the side of images."""
FROM_SMALLER: Final = ("resnet18 all", "resnet50 all")
"""Those of which most is what an image takes on its way through the layers."""


def trial_of(name: str) -> Trial:
    model, train, side = TRIALS[name]
    phase = replace(PHASE, train=train, epochs=2, patience=2, learning_rate=1e-4)
    dataset = replace(TRIAL.dataset, image_size=side)
    return make_trial(name.replace(" ", "-"), phase, model=model, train_size=80, dataset=dataset)


def predicted(name: str, most_images: int) -> int:
    from raybench.training.footprint import footprint  # noqa: PLC0415 - in the process that measures
    from raybench.training.process import prepare_process  # noqa: PLC0415

    trial = trial_of(name)
    return footprint(trial, Tuning(), prepare_process(trial, ALLOCATION), most_images=most_images).host_bytes


def actual(name: str) -> int:
    from raybench.training.execute import run  # noqa: PLC0415 - in the process that measures

    with tempfile.TemporaryDirectory() as folder:
        row = run(trial_of(name), run_dir=Path(folder), allocation=ALLOCATION, on_epoch=lambda _: Verdict.GO_ON)
    assert row.peak_memory_bytes is not None
    return row.peak_memory_bytes


def in_processes(*calls: str) -> list[int]:
    """Return the numbers that calls of functions of this file give, each in a process of its own, all at a time."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", f"from tests.faults import test_footprint as here; print(here.{call})"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for call in calls
    ]
    said = [process.communicate() for process in started]
    assert all(process.returncode == 0 for process in started), said
    return [int(output.splitlines()[-1]) for output, _ in said]


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_takes_what_it_was_expected_to_take_from_whole_batches_or_smaller_ones(name: str) -> None:
    sizes = (BATCH, FEW) if name in FROM_SMALLER else (BATCH,)
    taken, *expected = in_processes(f"actual({name!r})", *(f"predicted({name!r}, {size})" for size in sizes))
    print(f"{name}: took {taken / 1e6:.0f} MB, expected {[round(each / 1e6) for each in expected]}")  # noqa: T201
    assert expected == pytest.approx([taken] * len(sizes), rel=WITHIN)
