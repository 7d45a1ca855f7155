"""A whole comparison: `raybench run` against a sequential torchvision script and a plain Ray Tune function.

In: {resnet18, alexnet} x {fine-tune, linear-probe} x 2 seeds on 833 JPEGs of 320 px, trained at 64 px for 10 epochs in
batches of 32, without early stopping. Out: wall seconds of the whole process on each side, and with `--full` whether
the test accuracies agree. raybench starts with empty caches, on a machine that it has never measured; with
`--measured-before`, on one that it has: what it measures before its first trial is kept for all later runs.

By hand this takes 20 minutes and more. By default both scripts train fewer epochs, the sequential one with a single
seed, and what is missing is added at the pace of what was measured in the same run; raybench always runs in full.
`--full` runs everything in full, and its details say what that way of adding would have given.

    python -m benchmarks.grid                      minutes
    python -m benchmarks.grid --full --repeats 3   hours; benchmarks/results/grid-partial.jsonl grows after each side
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.figures import RESULTS, Figure, publish
from benchmarks.images import photo_folder
from benchmarks.processes import timed
from raybench.api import load_history, load_results
from raybench.choices import FOLDER
from raybench.ranking import rank

AT_LEAST = 3.0
"""Times sooner than either script."""
OURS, SEQUENTIAL, RAY = "raybench", "sequential script", "plain Ray Tune function"
SIDES = (OURS, SEQUENTIAL, RAY)
SCRIPTS = {SEQUENTIAL: "sequential", RAY: "ray_function"}
CONFIGURATION = ["model", "strategy"]
TRIAL = [*CONFIGURATION, "seed"]
EPOCH = [*TRIAL, "epoch", "train_loss", "val_loss", "val_accuracy", "epoch_seconds"]
PARTIAL = RESULTS / "grid-partial.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """What is compared, the same on every side."""

    images: str
    """Image folder."""
    held_out: int
    """Images of the test split."""
    models: tuple[str, ...] = ("resnet18", "alexnet")
    strategies: tuple[str, ...] = ("fine-tune", "linear-probe")
    seeds: tuple[int, ...] = (0, 1)
    epochs: int = 10
    image_size: int = 64
    batch_size: int = 32
    learning_rate: float = 3e-4
    """Of Adam. From random weights, AlexNet learns at this one, but not at 0.001."""
    measured_before: bool = False
    """Whether raybench has measured this machine when its clock starts."""

    @property
    def trials(self) -> int:
        """Configurations x seeds."""
        return len(self.models) * len(self.strategies) * len(self.seeds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One side, run once."""

    side: str
    wall_seconds: float
    """Of the process, its start included."""
    at_once: int
    """Trials that ran at the same time."""
    results: pd.DataFrame = field(repr=False)
    """A row a trial: model, strategy, seed, test_accuracy, seconds."""
    history: pd.DataFrame = field(repr=False)
    """A row a trial and epoch: the columns `EPOCH`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="run the scripts in full as well, and compare accuracies")
    parser.add_argument("--measured-before", action="store_true", help="let raybench measure the machine beforehand")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--script-epochs", type=int, default=2, help="epochs of the scripts without --full")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=833, help="in the training split")
    options = parser.parse_args(arguments)
    held_out = min(200, options.images)
    images = photo_folder(train=options.images, val=held_out, test=held_out)
    grid = Grid(
        images=str(images.resolve()),
        held_out=held_out,
        epochs=options.epochs,
        measured_before=options.measured_before,
    )
    # The pace is that of epochs after the first, so one epoch alone would not do.
    part = replace(grid, epochs=grid.epochs if options.full else min(options.script_epochs, grid.epochs))
    runs: list[dict[str, Measured]] = []
    for repeat in range(options.repeats):
        run: dict[str, Measured] = {}
        for side in (*SIDES[repeat % len(SIDES) :], *SIDES[: repeat % len(SIDES)]):
            print(f"grid: {side}, run {repeat + 1} of {options.repeats}", flush=True)
            asked = {OURS: grid, SEQUENTIAL: part if options.full else replace(part, seeds=grid.seeds[:1]), RAY: part}
            run[side] = measure(side, asked[side])
            _keep(run[side], repeat)
        runs.append(run)
    figures = time_figures(runs, grid)
    publish("grid", [*figures, *(accuracy_figures(runs, grid) if options.full else [])], _details(runs, grid))
    for line in same_training(runs[-1]):
        print(f"grid: {line}")


def measure(side: str, grid: Grid) -> Measured:
    """Run one side in a process of its own, with a folder of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="raybench-grid-") as name:
        folder = Path(name)
        return _measure_raybench(grid, folder) if side == OURS else _measure_script(side, grid, folder)


def scaled_seconds(measured: Measured, grid: Grid) -> float:
    """Return the wall seconds of the whole grid at the pace of the part that was measured.

    Added are the missing epochs of each trial, at the mean of its epochs after the first, and the missing seeds, at the
    mean of the others. As if trials that run at the same time left no core idle in the end, which favours the script.
    """
    by_trial = measured.history.sort_values("epoch").groupby(TRIAL)["epoch_seconds"]
    pace = by_trial.apply(lambda seconds: seconds.iloc[min(1, len(seconds) - 1) :].mean())
    missing = (pace * (grid.epochs - by_trial.size())).sum()
    measured_seconds = measured.results["seconds"].sum()
    seeds = grid.trials / len(measured.results)
    work = seeds * (measured_seconds + missing) - measured_seconds
    return float(measured.wall_seconds + work / measured.at_once)


def shortened(measured: Measured, epochs: int) -> Measured:
    """Return what would have been measured, had each trial ended after so many epochs."""
    later = measured.history[measured.history["epoch"] > epochs]
    left_out = later.groupby(TRIAL)["epoch_seconds"].sum().rename("left_out")
    results = measured.results.join(left_out, on=TRIAL)
    results["seconds"] -= results.pop("left_out").fillna(0)
    return replace(
        measured,
        wall_seconds=measured.wall_seconds - float(left_out.sum()) / measured.at_once,
        results=results,
        history=measured.history.drop(later.index),
    )


def time_figures(runs: Sequence[Mapping[str, Measured]], grid: Grid) -> list[Figure]:
    """Compare wall seconds with each script's."""
    figures = []
    for script in SCRIPTS:
        measured = runs[0][script]
        epochs, trials = int(measured.history["epoch"].max()), len(measured.results)
        scaled = (epochs, trials) != (grid.epochs, grid.trials)
        note = f"scaled from {epochs} epochs of {trials} trials to {grid.epochs} of {grid.trials}" if scaled else ""
        figures.append(
            Figure(
                name=f"wall time against the {script}",
                unit="seconds",
                ours=[run[OURS].wall_seconds for run in runs],
                peer=[scaled_seconds(run[script], grid) for run in runs],
                peer_name=script,
                more_is_better=False,
                at_least=AT_LEAST,
                note=note,
            )
        )
    return figures


def accuracy_figures(runs: Sequence[Mapping[str, Measured]], grid: Grid) -> list[Figure]:
    """Hold the distance between mean test accuracies against half of raybench's 95 % interval, for each configuration.

    The interval is that of `raybench rank`: over seeds and test images.
    """
    figures = []
    for script in SCRIPTS:
        tables = [_accuracies(run[OURS], run[script], grid) for run in runs]
        for model, strategy in tables[0].index:
            rows = [table.loc[(model, strategy)] for table in tables]
            ours, peer = rows[0]["ours"], rows[0]["peer"]
            figures.append(
                Figure(
                    name=f"test accuracy of {model} {strategy} against the {script}",
                    unit="apart",
                    ours=[float(abs(row["ours"] - row["peer"])) for row in rows],
                    peer=[float(row["half"]) for row in rows],
                    peer_name="half of raybench's 95 % interval",
                    more_is_better=False,
                    at_most=1.0,
                    note=f"{ours:.3f} and {peer:.3f}",
                )
            )
    return figures


def same_training(run: Mapping[str, Measured]) -> list[str]:
    """Say for each configuration how far training is on each side, after as many epochs as the scripts have trained."""
    epoch = min(int(measured.history["epoch"].max()) for measured in run.values())
    histories = {side: measured.history[measured.history["epoch"] == epoch] for side, measured in run.items()}
    losses = {side: history.groupby(CONFIGURATION)["train_loss"].mean() for side, history in histories.items()}
    return [
        f"training loss of {model} {strategy} in epoch {epoch}: "
        + ", ".join(f"{losses[side][model, strategy]:.3f} ({side})" for side in SIDES)
        for model, strategy in losses[OURS].index
    ]


def experiment(grid: Grid) -> dict[str, Any]:
    """Return raybench's experiment file; patience as long as the training turns early stopping off."""
    return {
        "name": "grid",
        "datasets": [{"name": "photos", "source": f"imagefolder:{grid.images}", "image_size": grid.image_size}],
        "models": list(grid.models),
        "weights": ["random"],
        "strategies": list(grid.strategies),
        "seeds": list(grid.seeds),
        "training": {
            "epochs": grid.epochs,
            "patience": grid.epochs,
            "batch_size": grid.batch_size,
            "optimizer": "adam",
            "learning_rate": grid.learning_rate,
        },
        "scheduler": "none",
    }


def _accuracies(ours: Measured, script: Measured, grid: Grid) -> pd.DataFrame:
    """Return mean accuracy on both sides and half of the interval, indexed by model and strategy."""
    ranking = rank(ours.results, test_images=grid.held_out).set_index(CONFIGURATION)
    return pd.DataFrame(
        {
            "ours": ranking["test_accuracy"],
            "peer": script.results.groupby(CONFIGURATION)["test_accuracy"].mean(),
            "half": (ranking["test_accuracy_high"] - ranking["test_accuracy_low"]) / 2,
        }
    )


def _measure_raybench(grid: Grid, folder: Path) -> Measured:
    file, run_dir = folder / "grid.yaml", folder / "run"
    file.write_text(yaml.safe_dump(experiment(grid), sort_keys=False), encoding="utf-8")
    command = ("-m", "raybench", "run", str(file), "--quiet", "--run-dir")
    cache = folder / "cache"
    if grid.measured_before:
        environment = {"RAYBENCH_CACHE_DIR": str(folder / "other-cache")}
        short = ("--set", "training.epochs=1", "--set", "training.patience=1")
        timed(*command, str(folder / "other-run"), *short, log=folder / "log", environment=environment)
        shutil.copytree(folder / "other-cache" / FOLDER, cache / FOLDER)
    seconds = timed(*command, str(run_dir), log=folder / "log", environment={"RAYBENCH_CACHE_DIR": str(cache)})
    results = load_results(run_dir)
    history = load_history(run_dir).merge(results[["trial_id", *TRIAL]], on="trial_id")
    return Measured(
        side=OURS,
        wall_seconds=seconds,
        at_once=os.cpu_count() or 1,
        results=results.rename(columns={"wall_seconds": "seconds"})[[*TRIAL, "test_accuracy", "seconds"]],
        history=history[EPOCH],
    )


def _measure_script(side: str, grid: Grid, folder: Path) -> Measured:
    seconds = timed(
        *("-m", f"benchmarks.baselines.{SCRIPTS[side]}", "--images", grid.images, "--output", str(folder / "results")),
        *("--models", *grid.models, "--strategies", *grid.strategies, "--seeds", *map(str, grid.seeds)),
        *("--epochs", str(grid.epochs), "--image-size", str(grid.image_size), "--batch-size", str(grid.batch_size)),
        *("--learning-rate", str(grid.learning_rate)),
        log=folder / "log",
    )
    return Measured(
        side=side,
        wall_seconds=seconds,
        at_once=(os.cpu_count() or 1) if side == RAY else 1,
        results=pd.read_csv(folder / "results" / "results.csv"),
        history=pd.read_csv(folder / "results" / "history.csv")[EPOCH],
    )


def _keep(measured: Measured, repeat: int) -> None:
    """Write down one side: the next one may take an hour, or be cut off."""
    RESULTS.mkdir(exist_ok=True)
    with PARTIAL.open("w" if repeat == 0 and measured.side == SIDES[0] else "a", encoding="utf-8") as file:
        file.write(json.dumps({"repeat": repeat, **_plain(measured)}) + "\n")


def _details(runs: Sequence[Mapping[str, Measured]], grid: Grid) -> dict[str, Any]:
    """Return everything that was measured, and what two epochs of a full script would have been scaled to."""
    return {
        "grid": asdict(grid),
        "runs": [[_plain(measured) for measured in run.values()] for run in runs],
        "scaled_from_two_epochs": [
            {script: scaled_seconds(shortened(run[script], 2), grid) for script in SCRIPTS} for run in runs
        ],
    }


def _plain(measured: Measured) -> dict[str, Any]:
    return {
        "side": measured.side,
        "wall_seconds": measured.wall_seconds,
        "at_once": measured.at_once,
        "results": measured.results.to_dict("records"),
        "history": measured.history.to_dict("records"),
    }


if __name__ == "__main__":
    main()
