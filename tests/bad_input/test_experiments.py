"""Whatever is wrong with an experiment: one message, exit status 2, nothing started and nothing written."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch

from tests.bad_input.material import (
    Case,
    also,
    call,
    dataset,
    files_below,
    images,
    lists,
    make_run,
    no_images,
    the_message,
    write,
)


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
    "a price without an instance type": Case(
        lines=("price_per_hour_usd: 0.40",),
        says=("price_per_hour_usd", "0.4 is not accepted", "such as price_per_hour_usd: {local: 0.4}"),
    ),
    "a price that is none": Case(lines=("price_per_hour_usd: cheap",), says=("'cheap'", "{local: 0.4}")),
    "budget that limits nothing": Case(
        lines=("budget: {}",), says=("budget: limits nothing", "give usd, hours or both, such as {usd: 20, hours: 4}")
    ),
    "budget of nothing": Case(lines=("budget: {usd: 0}",), says=("budget.usd", "0", "above 0")),
    "negative budget": Case(lines=("budget: {hours: -1}",), says=("budget.hours", "-1", "above 0")),
    "budget that is text": Case(lines=("budget: {usd: much}",), says=("budget.usd", "'much'", "a number")),
    "budget that is true": Case(lines=("budget: {usd: true}",), says=("budget.usd", "True", "a number")),
    "budget that is a number in quotes": Case(
        lines=("budget: {hours: '2'}",), says=("budget.hours", "'2'", "a number")
    ),
    "budget that is no number": Case(lines=("budget: {hours: .nan}",), says=("budget.hours", "nan", "a finite number")),
    "budget without end": Case(lines=("budget: {usd: .inf}",), says=("budget.usd", "inf", "a finite number")),
    "budget in another currency": Case(lines=("budget: {eur: 20}",), says=("budget.eur", "usd")),
    "budget without a unit": Case(lines=("budget: 20",), says=("budget: 20 is not accepted", "keys below it")),
    "budget in dollars without a price": Case(
        lines=("budget: {usd: 20}", "resources: {gpu: 0}"),
        says=("budget.usd: 20 cannot be kept", "price_per_hour_usd", "{local: 0.40}", "a budget in hours"),
    ),
    **{
        f"trial_timeout {value}": Case(
            lines=(f"trial_timeout: {value}",),
            says=("trial_timeout: ", value.strip("'."), "seconds, minutes, hours or days, such as 90s, 30m, 6h or 2d"),
        )
        for value in ("90", "0h", "1w", "-1h", "'1e3 s'", "6 hours", ".nan", "[6]")
    },
    **{
        f"memory_gb {value}": Case(
            lines=(f"resources: {{memory_gb: {value}}}",),
            says=(
                "resources.memory_gb",
                value.strip(".").replace("true", "True"),
                "auto, or a number of GB above 0 and below 1000000000",
            ),
        )
        for value in ("0", "-4", ".nan", ".inf", "much", "true", "1000000000000")
    },
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
    "more images than the cache may hold": Case(
        lines=("cache_limit_gb: 0.00001",),
        says=("the decoded images take 61.4 kB", "cache_limit_gb: 1e-05", "give 0.000062 or more"),
    ),
    "one set of files under two names": Case(
        lines=(
            "datasets: [{name: a, source: 'imagefolder:images'}, {name: b, source: 'imagefolder:./images'}]",
            "models: [resnet18]",
        ),
        says=("resnet18 random linear-probe · b 12 · seed 0", "a 12 · seed 0", "the same training", "leave one"),
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
    "gpu where there is none": Case(
        lines=("resources: {gpu: 0.5}",),
        options=("--num-gpus", "0"),
        says=("resources.gpu: 0.5", "no GPU", "0 or auto", "--num-gpus"),
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
