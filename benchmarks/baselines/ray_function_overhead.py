"""By hand with Ray Tune: a function trainable that does next to nothing, so that what is left is Ray Tune's own cost.

    python -m benchmarks.baselines.ray_function_overhead --output FOLDER --trials 8

Default settings, as a user writes it: a core a trial, torch imported. Out: trials.csv in the folder, a row a trial:
ended_at (seconds, wall clock) and work_seconds.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path

import ray
from ray import tune

from benchmarks.baselines.trivial_work import work


def trainable(config: dict[str, int]) -> None:
    """Run one trial of one epoch."""
    started = time.perf_counter()
    loss = work(config["seed"])
    seconds = time.perf_counter() - started
    tune.report({"epoch": 1, "val_loss": loss, "work_seconds": seconds, "ended_at": time.time()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trials and write down when each ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args(arguments)
    ray.init(address="local", num_cpus=options.at_once, include_dashboard=False)  # not one that happens to run here
    tuner = tune.Tuner(
        trainable,
        param_space={"seed": tune.grid_search(list(range(options.trials)))},
        run_config=tune.RunConfig(name="tune", storage_path=str(options.output.resolve())),
    )
    rows = [result.metrics for result in tuner.fit()]  # type: ignore[attr-defined] # iterated by index
    with (options.output / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["ended_at", "work_seconds"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
