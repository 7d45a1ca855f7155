"""What ASHA and patience save, and what they lose: a grid of 24 configurations in full against the same one cut short.

In: {resnet8, resnet20} x {random, packaged weights} x 6 strategies, from good ones to hopeless ones, on scikit-learn's
digits: 300 images to train, 300 to validate and 1197 to test, so that an image counts a twelfth of a point. Out:
training seconds of all trials in both grids, and the test accuracies of both winners.

The full grid trains every trial for all its epochs. The other one has raybench's defaults, at the proportions that they
have in 100 epochs: patience of 15 % of the epochs, ASHA's first rung at a tenth of them. Each seed is a group of its
own and is judged alone, as a run of one seed would be: the seeds are the repetitions.

Two choices are held against each other. The winner is the first row of `raybench rank`: the highest test accuracy among
the configurations that were not stopped. That asks the most of early stopping, since the full grid may choose among all
24. The pick is what raybench advises: it never looks at the test split, but weighs measured seconds.
"""

import argparse
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks.figures import Figure, publish
from benchmarks.processes import timed
from raybench.api import load_results
from raybench.ranking import rank

AT_LEAST = 2.0
"""Times less training: half is saved."""
POINTS = 0.5
"""Of test accuracy that may lie between the two winners."""
HELD_OUT = {"val": 300, "test": 1197}
"""Images of the digits that are not trained on; 300 are left."""
GRACE_SHARE = 0.1
"""ASHA's first rung as a share of the epochs, as 10 is of 100."""
MODELS = ("resnet8", "resnet20")
WEIGHTS = ("random", "packaged")
STRATEGIES: dict[str, Any] = {
    "fine-tune": {"train": "all", "learning_rate": 0.003},
    "fine-tune-fast": {"train": "all", "learning_rate": 0.03},
    "fine-tune-slow": {"train": "all", "learning_rate": 0.0001},
    "fine-tune-sgd": {"train": "all", "optimizer": "sgd", "learning_rate": 0.001},
    "linear-probe": {"train": "head", "learning_rate": 0.003},
    "linear-probe-slow": {"train": "head", "learning_rate": 0.0003},
}
"""One phase each."""


def digits() -> dict[str, Any]:
    """Return the digits as a source of raybench: most of them to test on, so that accuracies are sharp."""
    loaded = load_digits()
    images = (loaded.images * 255 / loaded.images.max()).astype(np.uint8)
    pairs = [(image, int(label)) for image, label in zip(images, loaded.target, strict=True)]
    rest, test = train_test_split(pairs, test_size=HELD_OUT["test"], stratify=loaded.target, random_state=0)
    labels = [label for _, label in rest]
    train, val = train_test_split(rest, test_size=HELD_OUT["val"], stratify=labels, random_state=0)
    return {"train": train, "val": val, "test": test, "classes": [str(name) for name in loaded.target_names]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both grids, print and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args(arguments)
    full, cut = (
        _train(experiment(epochs=options.epochs, seeds=options.seeds, early_stopping=early_stopping))
        for early_stopping in (False, True)
    )
    publish("early_stopping", figures(full, cut), {"full": _plain(full), "early_stopping": _plain(cut)})


def figures(full: pd.DataFrame, cut: pd.DataFrame) -> list[Figure]:
    """Compare two tables of results of the same grid, seed by seed."""
    seeds = sorted(full["seed"].unique())
    pairs = [(full[full["seed"] == seed], cut[cut["seed"] == seed]) for seed in seeds]
    seconds = [[float(table["train_seconds"].sum()) for table in pair] for pair in pairs]
    saved = 100 * (1 - np.median([ours / peer for peer, ours in seconds]))
    compute = Figure(
        name="training",
        unit="seconds",
        ours=[ours for _, ours in seconds],
        peer=[peer for peer, _ in seconds],
        peer_name="the full grid",
        more_is_better=False,
        at_least=AT_LEAST,
        note=f"{saved:.0f} % saved",
        details={
            "epochs": [[int(table["epochs_run"].sum()) for table in pair] for pair in pairs],
            "stopped": [int((ours["status"] == "stopped").sum()) for _, ours in pairs],
        },
    )
    return [compute, _accuracy(pairs, "winner"), _accuracy(pairs, "pick")]


def _accuracy(pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]], which: str) -> Figure:
    """Hold the points of test accuracy between two winners, or picks, against those that may lie there."""
    chosen = [[_chosen(table, which) for table in pair] for pair in pairs]
    same = sum(_name(full) == _name(cut) for full, cut in chosen)
    return Figure(
        name=f"points of test accuracy between the {which}s",
        unit="points",
        ours=[float(100 * abs(full["test_accuracy"] - cut["test_accuracy"])) for full, cut in chosen],
        peer=[POINTS] * len(pairs),
        peer_name="what may lie between them",
        more_is_better=False,
        at_most=1.0,
        note=f"the same configuration for {same} of {len(pairs)} seeds",
        details={
            side: [{"configuration": _name(row), "test_accuracy": float(row["test_accuracy"])} for row in rows]
            for side, rows in zip(("full", "early_stopping"), zip(*chosen, strict=True), strict=True)
        },
    )


def _chosen(results: pd.DataFrame, which: str) -> "pd.Series[Any]":
    """Return the first row of the ranking of one seed's trials, or the one that is picked."""
    ranking = rank(results, test_images=HELD_OUT["test"], val_images=HELD_OUT["val"])
    return ranking.loc[ranking["pick"] if which == "pick" else ranking["rank"] == 1].iloc[0]


def _name(row: "pd.Series[Any]") -> str:
    return f"{row['model']} {row['weights']} {row['strategy']}"


def experiment(*, epochs: int, seeds: Sequence[int], early_stopping: bool) -> dict[str, Any]:
    """Return the experiment file of the full grid, or of the one that is cut short."""
    asha = {"asha": {"grace_period": max(1, round(GRACE_SHARE * epochs))}}
    patience = {} if early_stopping else {"patience": epochs}
    return {
        "name": "early-stopping",
        "datasets": [{"name": "digits", "source": "benchmarks.early_stopping:digits", "image_size": 16}],
        "models": list(MODELS),
        "weights": list(WEIGHTS),
        "strategies": [{"name": name, "phases": [phase]} for name, phase in STRATEGIES.items()],
        "seeds": list(seeds),
        "training": {"epochs": epochs, "batch_size": 32, "optimizer": "adam", **patience},
        "scheduler": asha if early_stopping else "none",
    }


def _train(experiment: dict[str, Any]) -> pd.DataFrame:
    """Run an experiment in a process of its own, with empty caches, and return its results."""
    with tempfile.TemporaryDirectory(prefix="raybench-early-stopping-") as name:
        folder = Path(name)
        file = folder / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
        timed(
            *("-m", "raybench", "run", str(file), "--run-dir", str(folder / "run"), "--quiet"),
            log=folder / "log",
            environment={"RAYBENCH_CACHE_DIR": str(folder / "cache")},
        )
        return load_results(folder / "run")


def _plain(results: pd.DataFrame) -> list[dict[Hashable, Any]]:
    columns = ["model", "weights", "strategy", "seed", "status", "epochs_run", "train_seconds"]
    columns += ["val_loss", "val_accuracy", "test_accuracy"]
    return results[columns].to_dict("records")


if __name__ == "__main__":
    main()
