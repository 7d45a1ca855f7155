"""What the tests of bad input are made of: images, an experiment that runs, ways to spoil it, and the command line."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raybench import cli
from raybench.choices import Choices
from raybench.experiment import load_experiment
from raybench.manifest import read_manifest, write_manifest
from raybench.training import preflight

SOON_SECONDS = 5.0
"""Far more than anything here takes; what hangs takes for ever."""
LONGEST_MESSAGE = 2000
"""Characters: a screen."""

GOOD = {
    "name": "name: small",
    "datasets": "datasets: [{name: shapes, source: 'imagefolder:images', image_size: 32}]",
    "models": "models: [resnet8]",
    "weights": "weights: [random]",
    "strategies": "strategies: [linear-probe]",
    "seeds": "seeds: [0]",
    "training": "training: {epochs: 1}",
}
"""An experiment that runs on what `images` makes: each case spoils it in one place."""


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(shade).integers(0, 40, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise + np.uint8(shade)).save(path, quality=95)


def images(folder: Path, *, classes: str = "ab", train: int = 6) -> None:
    """Write an imagefolder of JPEGs: `train` images a class to train on, and two a class in val and in test."""
    shade = 0
    for split, count in (("train", train), ("val", 2), ("test", 2)):
        for name in classes:
            for index in range(count):
                shade = (shade + 1) % 200
                picture(folder / f"images/{split}/{name}/{index}.jpg", shade)


def no_images(folder: Path) -> None:
    """Leave the folder as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An experiment file that cannot run."""

    says: tuple[str, ...]
    """What the message has to name: the key, the value, what is accepted."""
    lines: tuple[str, ...] = ()
    """In place of the lines of `GOOD` with the same key, or beside them."""
    text: str | None = None
    """The whole file, where it is no mapping of keys."""
    make: Callable[[Path], object] = images
    """Makes what the file names."""
    options: tuple[str, ...] = ()
    """Behind the file on the command line."""
    names_file: bool = True
    """Whether the message begins with the experiment file: a run directory or an option may be wrong instead."""


def dataset(keys: str) -> str:
    return f"datasets: [{{name: shapes, image_size: 32, {keys}}}]"


def lists(**texts: str) -> Callable[[Path], None]:
    """Make file lists `x.train`, `x.test` and so on beside the images."""

    def make(folder: Path) -> None:
        images(folder)
        for split, text in texts.items():
            (folder / f"x.{split}").write_text(text)

    return make


def also(write: Callable[[Path], object]) -> Callable[[Path], None]:
    """Make the images and something else."""

    def make(folder: Path) -> None:
        images(folder)
        write(folder)

    return make


def make_run(run_dir: Path, file: Path) -> None:
    """Make the run directory of an experiment, none of whose trials has ended."""
    experiment = load_experiment(file)
    write_manifest(run_dir, experiment, preflight.check(experiment, str(file)), Choices())


def trial_of(run_dir: Path) -> str:
    """Return the id of the first trial of a run."""
    return read_manifest(run_dir).trials()[0].trial_id


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command line in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["raybench", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def the_message(captured: str) -> str:
    """Return the one line that a user reads."""
    lines = captured.strip().splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("raybench: ")
    return lines[0].removeprefix("raybench: ")


def files_below(folder: Path) -> dict[str, bytes | None]:
    """Return the files below a folder; what Python compiles on import aside, and the locks of the image cache."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and "__pycache__" not in path.parts
    }


def write(folder: Path, case: Case) -> Path:
    path = folder / "experiment.yaml"
    keys = {line.split(":", 1)[0]: line for line in case.lines}
    path.write_text(case.text if case.text is not None else "\n".join([*(GOOD | keys).values(), ""]))
    return path
