"""By hand: a loop over models, strategies and seeds, one after another, a row a trial in a CSV file.

    python -m benchmarks.baselines.sequential --images FOLDER --output FOLDER --epochs 10

Out: results.csv, a row a trial (model, strategy, seed, test_accuracy, seconds), and history.csv, a row an epoch.
"""

import argparse
import csv
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.baselines.training import train


def main(arguments: Sequence[str] | None = None) -> None:
    """Train everything that was asked for."""
    options = parse(arguments)
    results, history = [], []
    for model, strategy, seed in itertools.product(options.models, options.strategies, options.seeds):
        trial = {"model": model, "strategy": strategy, "seed": seed}
        epochs: list[dict[str, float]] = []
        started = time.perf_counter()
        accuracy = train({**shared_config(options), **trial}, epochs.append)
        results.append({**trial, "test_accuracy": accuracy, "seconds": time.perf_counter() - started})
        history += [{**trial, **epoch} for epoch in epochs]
        write_csv(options.output / "results.csv", results)  # written now: a later trial may crash
        write_csv(options.output / "history.csv", history)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, which both baselines share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["resnet18", "alexnet"])
    parser.add_argument("--strategies", nargs="+", default=["fine-tune", "linear-probe"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args(arguments)


def shared_config(options: argparse.Namespace) -> dict[str, Any]:
    """Return what all trials have in common."""
    return {
        "images": str(options.images.resolve()),
        "epochs": options.epochs,
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "workers": options.workers,
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
