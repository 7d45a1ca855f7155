"""By hand with Ray Tune: the same training as a function trainable, a core a trial, as many at once as there are cores.

    python -m benchmarks.baselines.ray_function --images FOLDER --output FOLDER --epochs 10

Out: results.csv and history.csv as the sequential loop writes them, beside Ray's own files.
"""

import time
from collections.abc import Sequence
from typing import Any

import ray
from ray import tune

from benchmarks.baselines.sequential import parse, shared_config, write_csv
from benchmarks.baselines.training import train

TRIAL = ("model", "strategy", "seed")
EPOCH = ("epoch", "train_loss", "val_loss", "val_accuracy", "epoch_seconds")


def trainable(config: dict[str, Any]) -> None:
    """Train one trial; Ray is told each epoch, and at the end the test accuracy."""
    started = time.perf_counter()
    accuracy = train(config, tune.report)
    tune.report({"test_accuracy": accuracy, "seconds": time.perf_counter() - started})


def main(arguments: Sequence[str] | None = None) -> None:
    """Train everything that was asked for."""
    options = parse(arguments)
    ray.init(address="local", include_dashboard=False)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1, "gpu": 0}),
        param_space={
            **shared_config(options),
            "model": tune.grid_search(options.models),
            "strategy": tune.grid_search(options.strategies),
            "seed": tune.grid_search(options.seeds),
        },
        run_config=tune.RunConfig(name="tune", storage_path=str(options.output.resolve())),
    )
    results, history = [], []
    for result in tuner.fit():  # type: ignore[attr-defined] # iterated by index
        if result.error is not None:
            raise result.error
        trial = {key: result.config[key] for key in TRIAL}
        results.append({**trial, **{key: result.metrics[key] for key in ("test_accuracy", "seconds")}})
        epochs = result.metrics_dataframe.dropna(subset="epoch").astype({"epoch": int})
        history += [{**trial, **epoch} for epoch in epochs[list(EPOCH)].to_dict("records")]
    write_csv(options.output / "results.csv", results)
    write_csv(options.output / "history.csv", history)


if __name__ == "__main__":
    main()
