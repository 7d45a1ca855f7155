"""Whatever is wrong with what a user gives: one message, exit status 2, nothing started and nothing written."""

import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image

from raybench import cli
from raybench.experiment import load_experiment
from raybench.manifest import read_manifest, write_manifest
from raybench.results import RESULTS_SCHEMA
from raybench.training import preflight

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


def truncated(folder: Path) -> None:
    path = folder / "images/train/b/3.jpg"
    path.write_bytes(path.read_bytes()[:300])


def module(text: str) -> Callable[[Path], None]:
    return also(lambda folder: (folder / "faulty_of_a_test.py").write_text(text))


class Mine:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("code-has-run"),))  # type: ignore[return-value]


def other_weights(folder: Path) -> None:
    torch.save({"stem.weight": torch.zeros(3, 3)}, folder / "other.pth")


IN_TRAIN = "images/train/a/0.jpg 0\nimages/train/b/0.jpg 1\nimages/train/a/1.jpg 0\nimages/train/b/1.jpg 1\n"
FILELIST = dataset("source: 'filelist:x'")
CALLABLE = dataset("source: 'faulty_of_a_test:make'")
OWN_MODEL = "models: ['faulty_of_a_test:make']"

SHAPE = {
    "unknown key": Case(lines=("traning: {epochs: 3}",), says=("traning", "did you mean 'training'")),
    "unknown key in a part": Case(lines=("training: {epoch: 3}",), says=("training.epoch", "did you mean 'epochs'")),
    "unknown key in a list": Case(
        lines=(dataset("source: digits, train_size: [9]"),), says=("datasets[0].train_size", "'train_sizes'")
    ),
    "missing key": Case(lines=("models:",), says=("models", "a list")),
    "wrong type": Case(lines=("training: {epochs: many}",), says=("training.epochs", "'many'", "a whole number")),
    "text for a list": Case(lines=("seeds: 3",), says=("seeds", "3", "a list")),
    "epochs 0": Case(lines=("training: {epochs: 0}",), says=("training.epochs", "0", "at least 1")),
    "batch_size 0": Case(lines=("training: {batch_size: 0}",), says=("training.batch_size", "0", "at least 1")),
    "negative learning rate": Case(
        lines=("training: {learning_rate: -0.1}",), says=("training.learning_rate", "-0.1", "above 0")
    ),
    "learning rate that is no number": Case(
        lines=("training: {learning_rate: .nan}",), says=("training.learning_rate", "nan", "a finite number")
    ),
    "negative price": Case(
        lines=("price_per_hour_usd: {local: -0.4}",), says=("price_per_hour_usd.local", "-0.4", "at least 0")
    ),
    "duplicate names": Case(
        lines=("datasets: [{name: a, source: digits}, {name: a, source: digits}]",), says=("datasets", "'a'", "twice")
    ),
    "duplicate models": Case(lines=("models: [resnet8, resnet8]",), says=("models", "'resnet8'", "twice")),
    "duplicate seeds": Case(lines=("seeds: [4, 4]",), says=("seeds", "4", "twice")),
    "duplicate train sizes": Case(
        lines=(dataset("source: 'imagefolder:images', train_sizes: [4, 4]"),), says=("train_sizes", "4", "twice")
    ),
    "name with a slash": Case(lines=("name: runs/small",), says=("name", "'runs/small'", "letters", "digits")),
    "name that leaves the folder": Case(lines=("name: ..",), says=("name", "'..'", "letters or digits")),
    "dataset name with a slash": Case(
        lines=("datasets: [{name: ../a, source: digits}]",), says=("datasets[0].name", "'../a'", "letters")
    ),
    "reduction factor 1": Case(
        lines=("scheduler: {asha: {reduction_factor: 1}}",), says=("scheduler.asha.reduction_factor", "1", "at least 2")
    ),
    "more than one GPU with a fraction": Case(
        lines=("resources: {gpu: 1.5}",), says=("resources.gpu", "1.5", "whole number")
    ),
    "train size 0": Case(
        lines=(dataset("source: digits, train_sizes: [0]"),), says=("datasets[0].train_sizes[0]", "0", "or all")
    ),
    "unknown strategy": Case(
        lines=("strategies: [fine-tunning]",), says=("strategies[0]", "'fine-tunning'", "fine-tune, linear-probe")
    ),
    "malformed YAML": Case(text="name: small\nmodels: [resnet8\n", says=("not valid YAML at line 3",)),
    "YAML that would run code": Case(
        text="name: !!python/object/apply:pathlib.Path.touch [code-has-run]\n", says=("not valid YAML at line 1",)
    ),
    "a list for an experiment": Case(text="- resnet8\n", says=("holds a list", "a mapping")),
    "an empty file": Case(text="", says=("holds nothing", "a mapping")),
    "name that is too long": Case(lines=(f"name: {'n' * 101}",), says=("name", "at most 100 characters")),
    "unknown optimizer": Case(
        lines=("training: {optimizer: adamax}",), says=("training.optimizer", "'adamax'", "'adam', 'adamw' or 'sgd'")
    ),
    "layers that are no list": Case(
        lines=("strategies: [{name: mine, phases: [{train: 3}]}]",),
        says=("strategies[0].phases[0].train", "3", "head, all or a list"),
    ),
    "augmentation that is none": Case(
        lines=("strategies: [{name: mine, augment: heavy, phases: [{train: all}]}]",),
        says=("strategies[0].augment", "'heavy'", "trivialaugment"),
    ),
    "bad --set": Case(
        options=("--set", "training.epochs"), says=("--set training.epochs", "KEY=VALUE"), names_file=False
    ),
    "--set to a bad value": Case(options=("--set", "training.epochs=-3"), says=("training.epochs", "-3", "at least 1")),
}

DATA = {
    "unknown source": Case(
        lines=(dataset("source: 'kaggle:cats and dogs'"),),
        says=("datasets[0]", "source 'kaggle:cats and dogs'", "digits, torchvision:NAME, imagefolder:DIR"),
    ),
    "unknown torchvision set": Case(
        lines=(dataset("source: 'torchvision:FashionMNST', root: ."),), says=("datasets[0]", "FashionMNST", "CIFAR10")
    ),
    "missing folder": Case(make=no_images, says=("datasets[0]", "no folder", "images", "expected train/CLASS/IMAGE")),
    "empty folder": Case(
        make=lambda folder: (folder / "images").mkdir(), says=("datasets[0]", "no folder train", "train/CLASS/IMAGE")
    ),
    "one class only": Case(
        make=lambda folder: images(folder, classes="a"), says=("datasets[0]", "only the class 'a'", "two classes")
    ),
    "train size above what there is": Case(
        lines=(dataset("source: 'imagefolder:images', train_sizes: [4, 5000]"),),
        says=("datasets[0].train_sizes[1]: 5000", "the 12 training images of 'shapes'", "up to 12, or all"),
    ),
    "too few images for a stratified split": Case(
        make=lambda folder: images(folder, classes="abcdefghij"),
        lines=(dataset("source: 'imagefolder:images', train_sizes: [5]"),),
        says=("datasets[0].train_sizes[0]: 5", "10 classes", "at least 10"),
    ),
    "a size that means all twice": Case(
        lines=(dataset("source: 'imagefolder:images', train_sizes: [12, all]"),),
        says=("datasets[0].train_sizes[1]", "'all' means 12 images", "leave one out"),
    ),
    "val_size above what there is": Case(
        lines=(dataset("source: 'filelist:x', val_size: 3"),),
        make=lists(train=IN_TRAIN),
        says=("datasets[0]", "val_size 3", "from 1 to 2"),
    ),
    "text file named .jpg": Case(
        make=also(lambda folder: (folder / "images/train/a/9.jpg").write_text("no image")),
        says=("datasets[0]", "train/a/9.jpg", "not an image", "on_bad_image: skip"),
    ),
    "truncated image": Case(
        make=also(truncated), says=("datasets[0]", "train/b/3.jpg", "Truncated", "on_bad_image: skip")
    ),
    "missing list": Case(lines=(FILELIST,), says=("datasets[0]", "no file list", "x.train", "relative/path label")),
    "label out of range": Case(
        lines=(FILELIST,),
        make=lists(train=IN_TRAIN, test="images/test/a/0.jpg 7\n"),
        says=("datasets[0]", "x.test line 1", "label 7", "the labels are 0, 1"),
    ),
    "label that is no integer": Case(
        lines=(FILELIST,),
        make=lists(train=IN_TRAIN + "images/train/a/2.jpg mild\n"),
        says=("datasets[0]", "x.train line 5", "'mild'", "an integer"),
    ),
    "listed file that is not there": Case(
        lines=(FILELIST,),
        make=lists(train=IN_TRAIN + "images/gone.jpg 1\n", val=IN_TRAIN),
        says=("datasets[0]", "images/gone.jpg", "no such file"),
    ),
    "dataset callable that is not there": Case(
        lines=(CALLABLE,), says=("datasets[0]", "faulty_of_a_test:make", "PYTHONPATH")
    ),
    "dataset callable that raises": Case(
        lines=(CALLABLE,),
        make=module("def make():\n    raise OSError('the archive is locked')"),
        says=("datasets[0]", "faulty_of_a_test:make raised OSError: the archive is locked"),
    ),
    "dataset callable that returns nothing": Case(
        lines=(CALLABLE,), make=module("def make(): pass"), says=("datasets[0]", "NoneType without 'train'", "pairs")
    ),
    "augmentation that the dataset turns off": Case(
        lines=(dataset("source: 'imagefolder:images', augmentation: none"), "strategies: [fine-tune+augment]"),
        says=("strategies: 'fine-tune+augment'", "augmentation: none", "trivialaugment"),
    ),
}

MODELS = {
    "unknown model": Case(
        lines=("models: [resnet8, resnet19]",),
        says=("models[1]", "'resnet19'", "did you mean", "resnet18", "package.module:callable"),
    ),
    "unknown timm model": Case(lines=("models: ['timm:resnet19']",), says=("models[0]", "'resnet19'", "did you mean")),
    "image too small for the model": Case(
        lines=("models: [alexnet]",), says=("models[0]", "alexnet", "image_size 32", "the next size that works is 63")
    ),
    "head that is no layer": Case(
        lines=("models: [{name: resnet8, head: classifier}]",), says=("models[0]", "'classifier'", "fc")
    ),
    "model callable that is not there": Case(
        lines=(OWN_MODEL,), says=("models[0]", "faulty_of_a_test:make", "PYTHONPATH")
    ),
    "model callable that raises": Case(
        lines=(OWN_MODEL,),
        make=module("def make(num_classes):\n    raise ValueError('no such width')"),
        says=("models[0]", "faulty_of_a_test:make", "num_classes=2", "ValueError: no such width"),
    ),
    "model callable that returns no module": Case(
        lines=(OWN_MODEL,), make=module("def make(): return 3"), says=("models[0]", "int", "torch.nn.Module")
    ),
    "model callable whose module does not import": Case(
        lines=(OWN_MODEL,), make=module("import nothing_of_the_kind"), says=("models[0]", "nothing_of_the_kind")
    ),
    "unknown layers in a phase": Case(
        lines=("strategies: [{name: mine, phases: [{train: [stage9]}]}]",), says=("strategies", "'stage9'", "head, all")
    ),
    "unknown weights": Case(
        lines=("weights: [random, imagenett]", "models: [resnet18]"),
        says=("weights[1]", "imagenett", "did you mean imagenet", "random"),
    ),
    "weights that the model has not": Case(
        lines=("weights: [imagenet]",), says=("weights[0]", "'imagenet'", "random, packaged", ".safetensors")
    ),
    "missing weights file": Case(lines=("weights: [gone.pth]",), says=("weights[0]", "no such file", "gone.pth")),
    "mismatched weights file": Case(
        lines=("weights: [other.pth]",),
        make=also(other_weights),
        says=("weights[0]", "other.pth", "missing in the file", "same architecture"),
    ),
    "weights file that would run code": Case(
        lines=("weights: [mine.pth]",),
        make=also(lambda folder: torch.save({"stem.weight": Mine()}, folder / "mine.pth")),
        says=("weights[0]", "mine.pth", "code"),
    ),
    "weights file that is text": Case(
        lines=("weights: [text.safetensors]",),
        make=also(lambda folder: (folder / "text.safetensors").write_text("no tensors")),
        says=("weights[0]", "text.safetensors"),
    ),
    "offline weights": Case(
        lines=("weights: [imagenet]", "models: [resnet18]"),
        says=("weights[0]", "cannot be downloaded", "resnet18-f37072fd.pth", "'random'"),
    ),
}


def a_file(name: str) -> Callable[[Path], None]:
    return also(lambda folder: (folder / name).write_text("a file in the way"))


def make_run(run_dir: Path, file: Path) -> None:
    """Make the run directory of an experiment, none of whose trials has ended."""
    experiment = load_experiment(file)
    write_manifest(run_dir, experiment, preflight.check(experiment, str(file)), {})


def trial_of(run_dir: Path) -> str:
    """Return the id of the first trial of a run."""
    return read_manifest(run_dir).trials()[0].trial_id


def other_run(folder: Path) -> None:
    make_run(folder / "run", write(folder, Case(lines=("name: large",), says=())))


def broken_run(folder: Path) -> None:
    other_run(folder)
    (folder / "run/manifest.json").write_text("{")


PLACE = {
    "run directory of another experiment": Case(
        make=also(other_run),
        options=("--run-dir", "run"),
        says=("run: ", "'large'", "'small'", "another --run-dir"),
        names_file=False,
    ),
    "run directory that is a file": Case(
        make=a_file("run"), options=("--run-dir", "run"), says=("run: is a file", "--run-dir"), names_file=False
    ),
    "run directory below a file": Case(
        make=a_file("run"), options=("--run-dir", "run/small"), says=("run/small", "--run-dir"), names_file=False
    ),
    "run directory with a broken manifest": Case(
        make=also(broken_run),
        options=("--run-dir", "run"),
        says=("run/manifest.json: cannot be read",),
        names_file=False,
    ),
    "folder with other things in it": Case(
        options=("--run-dir", "images"), says=("images: ", "no manifest.json", "--run-dir"), names_file=False
    ),
    "gpu above what there is": Case(
        lines=("resources: {gpu: 2}",),
        options=("--num-gpus", "1"),
        says=("resources.gpu: 2", "up to 1, or auto"),
    ),
    "cpu above what there is": Case(
        lines=("resources: {cpu: 3}",), options=("--num-cpus", "2"), says=("resources.cpu: 3", "up to 2")
    ),
    "no cores": Case(options=("--num-cpus", "0"), says=("--num-cpus: 0", "from 1 up"), names_file=False),
    "negative GPUs": Case(options=("--num-gpus", "-1"), says=("--num-gpus: -1", "from 0 up"), names_file=False),
    "address that is none": Case(
        options=("--address", "somewhere"), says=("--address: 'somewhere'", "HOST:PORT"), names_file=False
    ),
    "address and cores": Case(
        options=("--address", "127.0.0.1:6379", "--num-cpus", "2"), says=("--address", "--num-cpus"), names_file=False
    ),
}

CASES = {**SHAPE, **DATA, **MODELS, **PLACE}


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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with caches of its own beside it."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(work)
    monkeypatch.delitem(sys.modules, "faulty_of_a_test", raising=False)
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody answers: offline, at once
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return work


def write(folder: Path, case: Case) -> Path:
    path = folder / "experiment.yaml"
    keys = {line.split(":", 1)[0]: line for line in case.lines}
    path.write_text(case.text if case.text is not None else "\n".join([*(GOOD | keys).values(), ""]))
    return path


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_experiment_is_one_message_and_nothing_is_started_or_written(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.make(folder)
    file = write(folder, case)
    before = files_below(folder.parent)
    status = call(monkeypatch, "run", file, *case.options)
    message = the_message(capsys.readouterr().err)
    assert status == 2
    for part in case.says:
        assert part in message
    assert message.startswith(f"{file}: ") == case.names_file
    assert files_below(folder.parent) == before
    assert not ray.is_initialized()


def test_several_mistakes_are_told_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(folder, Case(lines=("seeds: [-1]", "training: {epochs: 0, momentun: 0.5}"), says=()))
    assert call(monkeypatch, "run", file) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("raybench: ").split(": ")[1] for line in lines] == [
        "seeds[0]",
        "training.epochs",
        "training.momentun",
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command that cannot be done, on what `a_run` makes."""

    arguments: tuple[str, ...]
    says: tuple[str, ...]
    make: Callable[[Path], object] = no_images


def spoiled(name: str, content: bytes) -> Callable[[Path], None]:
    """Put something else in the place of a file of the run; `TRIAL` stands for the id of its trial."""

    def make(folder: Path) -> None:
        path = folder / "run" / name.replace("TRIAL", trial_of(folder / "run"))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    return make


def of_the_future(folder: Path) -> None:
    (folder / "run/results").mkdir()
    row = {field.name: None for field in RESULTS_SCHEMA} | {
        "trial_id": "f",
        "status": "completed",
        "schema_version": 99,
    }
    pq.write_table(pa.Table.from_pylist([row], schema=RESULTS_SCHEMA), folder / "run/results/f.parquet")


def table(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "table.csv").write_text(text)  # type: ignore[return-value]


COMMANDS = {
    "file that is not there": Command(arguments=("run", "gone.yaml"), says=("gone.yaml: no such file",)),
    "folder in place of a file": Command(arguments=("run", "run"), says=("run: cannot be read as text",)),
    "plan of a bad file": Command(
        arguments=("plan", "experiment.yaml", "--set", "models=[resnet19]"),
        says=("experiment.yaml: models[0]", "did you mean"),
    ),
    "plan on the run of another experiment": Command(
        arguments=("plan", "experiment.yaml", "--set", "name=large", "--run-dir", "run"), says=("run: ", "'large'")
    ),
    "resume of nothing": Command(arguments=("resume", "gone"), says=("gone: no such run directory",)),
    "resume of a file": Command(arguments=("resume", "experiment.yaml"), says=("experiment.yaml: no such run",)),
    "resume of another folder": Command(arguments=("resume", "images"), says=("images: is no run directory",)),
    "broken manifest": Command(
        arguments=("resume", "run"), make=spoiled("manifest.json", b"{"), says=("run/manifest.json: cannot be read",)
    ),
    "manifest that is no text": Command(
        arguments=("show", "run"), make=spoiled("manifest.json", b"\xff\xfe"), says=("run/manifest.json: cannot be",)
    ),
    "manifest that is a list": Command(
        arguments=("show", "run"), make=spoiled("manifest.json", b"[]"), says=("run/manifest.json: cannot be read",)
    ),
    "manifest without a dataset of the experiment": Command(
        arguments=("show", "run"),
        make=spoiled("manifest.json", b'{"facts": {}, "created_at": "", "chosen": {}}'),
        says=("run/manifest.json: knows nothing of 'shapes'", "raybench resume run"),
    ),
    "broken experiment of a run": Command(
        arguments=("show", "run"), make=spoiled("experiment.yaml", b"name: ["), says=("run/experiment.yaml: not valid",)
    ),
    "corrupt row": Command(
        arguments=("resume", "run"),
        make=spoiled("results/TRIAL.parquet", b"no Parquet"),
        says=("run/results/TRIAL.parquet: cannot be read as Parquet", "delete it"),
    ),
    "corrupt row, shown": Command(
        arguments=("show", "run"),
        make=spoiled("results/TRIAL.parquet", b""),
        says=("TRIAL.parquet: cannot be read",),
    ),
    "corrupt row, ranked": Command(
        arguments=("rank", "run"),
        make=spoiled("results/TRIAL.parquet", b"PAR1"),
        says=("TRIAL.parquet: cannot be read",),
    ),
    "rows of a later version": Command(
        arguments=("rank", "run"), make=of_the_future, says=("run: results of schema version 99", "up to 1", "newer")
    ),
    "unknown trial, shown": Command(
        arguments=("show", "run", "zzzz"), says=("run: has no trial 'zzzz'", "raybench show run")
    ),
    "unknown trial, exported": Command(
        arguments=("export", "run", "zzzz", "--output", "w.safetensors"), says=("run: has no trial 'zzzz'",)
    ),
    "unknown trial, predicted with": Command(
        arguments=("predict", "run", "zzzz", "images/test/a/0.jpg"), says=("run: has no trial 'zzzz'",)
    ),
    "no trial": Command(arguments=("show", "run", ""), says=("run: ", "''")),
    "trial that has not ended, exported": Command(
        arguments=("export", "run", "TRIAL", "--output", "w.safetensors"), says=("run", "TRIAL", "not ended")
    ),
    "trial that has not ended, predicted with": Command(
        arguments=("predict", "run", "TRIAL", "images/test/a/0.jpg"), says=("run", "TRIAL")
    ),
    "export of another kind": Command(
        arguments=("export", "run", "TRIAL", "--output", "w.h5"), says=("--output w.h5", ".safetensors or .onnx")
    ),
    "unknown column": Command(
        arguments=("rank", "table.csv", "--by", "beauty"),
        make=table("model,test_accuracy\nresnet8,0.5\n"),
        says=("--by: 'beauty'", "give one of test_accuracy"),
    ),
    "column that is no metric": Command(
        arguments=("rank", "table.csv", "--by", "model"),
        make=table("model,test_accuracy\nresnet8,0.5\n"),
        says=("'model'", "test_accuracy"),
    ),
    "column that the table lacks": Command(
        arguments=("rank", "table.csv", "--by", "val_loss"),
        make=table("model,test_accuracy\nresnet8,0.5\n"),
        says=("'val_loss'",),
    ),
    "table without accuracies": Command(
        arguments=("rank", "table.csv"), make=table("model,size\nresnet8,3\n"), says=("table.csv", "'test_accuracy'")
    ),
    "accuracy in percent": Command(
        arguments=("rank", "table.csv"),
        make=table("model,test_accuracy\nresnet8,93.1\n"),
        says=("table.csv: row 1: test_accuracy is 93.1", "from 0 to 1"),
    ),
    "empty table": Command(arguments=("rank", "table.csv"), make=table(""), says=("table.csv: cannot be read",)),
    "table of another kind": Command(
        arguments=("rank", "experiment.yaml"), says=("experiment.yaml", ".csv or .parquet")
    ),
    "source that is not there": Command(arguments=("rank", "gone"), says=("gone: there is no such",)),
    "folder that is no run": Command(arguments=("rank", "images"), says=("images: not a run directory",)),
    "ranking into a folder that is not there": Command(
        arguments=("rank", "table.csv", "--output", "gone/ranking.csv", "--format", "csv"),
        make=table("model,test_accuracy\nresnet8,0.5\n"),
        says=("--output gone/ranking.csv", "cannot be written"),
    ),
    "table into a folder": Command(
        arguments=("rank", "table.csv", "--output", "images"),
        make=table("model,test_accuracy\nresnet8,0.5\n"),
        says=("--output images", "cannot be written"),
    ),
    "unknown model": Command(arguments=("models", "resnet19"), says=("'resnet19'", "did you mean")),
    "unknown model's layers": Command(
        arguments=("models", "resnet19", "--layers"), says=("'resnet19'", "did you mean")
    ),
    "model on images that are too small": Command(
        arguments=("models", "alexnet", "--image-size", "32"), says=("alexnet", "32", "63")
    ),
    "init on nothing": Command(arguments=("init", "gone"), says=("gone: no such folder", "train/CLASS/IMAGE")),
    "init on a file that is there": Command(
        arguments=("init", "images", "--output", "experiment.yaml"), says=("experiment.yaml: is there already",)
    ),
}


@pytest.fixture
def a_run(folder: Path) -> str:
    """A run directory none of whose trials has ended; returns the id of its only one."""
    images(folder)
    make_run(folder / "run", write(folder, Case(says=())))
    return trial_of(folder / "run")


@pytest.mark.parametrize("case", COMMANDS.values(), ids=COMMANDS)
def test_command_that_cannot_be_done_is_one_message_and_nothing_is_written(
    case: Command, a_run: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.make(folder)
    before = files_below(folder.parent)
    arguments = [a_run if argument == "TRIAL" else argument for argument in case.arguments]
    status = call(monkeypatch, *arguments)
    captured = capsys.readouterr()
    message = the_message(captured.err)
    assert status == 2
    assert all(line.startswith("Note: ") for line in captured.out.splitlines())
    for part in case.says:
        assert part.replace("TRIAL", a_run) in message
    assert files_below(folder.parent) == before
    assert not ray.is_initialized()


USAGE = {
    "unknown format": (("rank", "run", "--format", "xml"), ("--format", "xml", "markdown", "csv", "json")),
    "unknown option": (("run", "--run-dri", "x"), ("--run-dri", "--run-dir")),
    "unknown command": (("runn",), ("runn",)),
    "missing argument": (("rank",), ("SOURCE",)),
    "cores that are no number": (("run", "--num-cpus", "two"), ("--num-cpus", "integer")),
}


@pytest.mark.parametrize("case", USAGE)
def test_command_line_that_is_none_says_what_is_wrong(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, says = USAGE[case]
    assert call(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in says:
        assert part in captured.err
    assert files_below(folder.parent) == {}


def test_address_where_nobody_listens_is_named_and_nothing_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(folder)
    file = write(folder, Case(says=()))
    before = files_below(folder.parent)
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert call(monkeypatch, "run", file, "--address", address) == 2
    message = the_message(capsys.readouterr().err)
    assert message.startswith(f"--address: '{address}' does not answer")
    assert "HOST:PORT" in message
    assert files_below(folder.parent) == before


def test_missing_timm_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what `import timm` meets where it is not installed
    images(folder)
    file = write(folder, Case(lines=("models: ['timm:resnet18']",), says=()))
    assert call(monkeypatch, "run", file) == 2
    message = the_message(capsys.readouterr().err)
    assert "models[0]" in message
    assert "pip install 'raybench[timm]'" in message


def test_one_unreadable_image_among_many_is_named_and_can_be_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(folder, train=150)
    (folder / "images/train/b/77.jpg").write_bytes(b"\xff\xd8 cut off")
    file = write(folder, Case(says=()))
    assert call(monkeypatch, "plan", file) == 2
    assert "train/b/77.jpg" in the_message(capsys.readouterr().err)
    assert call(monkeypatch, "plan", file, "--set", "datasets.0.on_bad_image=skip") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "299" in captured.out
    assert "unreadable images left out: 1, as train/b/77.jpg" in " ".join(captured.out.split())


def test_installed_command_ends_with_status_two_and_one_message(folder: Path) -> None:
    """The real entry point, in a process of its own."""
    file = write(folder, Case(lines=("seeds: [1, 1]",), says=()))
    command = [str(Path(sys.executable).with_name("raybench")), "run", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert the_message(done.stderr) == f"{file}: seeds: 1 is there twice; each seed stands once"
    assert list(files_below(folder)) == ["experiment.yaml"]
