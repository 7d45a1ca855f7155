"""Whatever is wrong with what a command is given: one message, exit status 2, nothing written."""

import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from raybench.manifest import read_manifest
from raybench.results import RESULTS_SCHEMA
from tests.bad_input.material import (
    Case,
    call,
    files_below,
    images,
    make_run,
    no_images,
    the_message,
    trial_of,
    write,
)


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
    trial_id = read_manifest(folder / "run").trials()[0].trial_id
    row = {field.name: None for field in RESULTS_SCHEMA} | {
        "trial_id": trial_id,
        "status": "completed",
        "schema_version": 99,
    }
    pq.write_table(pa.Table.from_pylist([row], schema=RESULTS_SCHEMA), folder / f"run/results/{trial_id}.parquet")


def table(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "table.csv").write_text(text)  # type: ignore[return-value]


COMMANDS = {
    "file that is not there": Command(arguments=("run", "gone.yaml"), says=("gone.yaml: no such file",)),
    "folder in place of a file": Command(arguments=("run", "run"), says=("run: cannot be read as text",)),
    "file that is no text": Command(
        arguments=("run", "experiment.yaml"),
        make=lambda folder: (folder / "experiment.yaml").write_bytes(b"\xff\xfe\x00"),
        says=("experiment.yaml: cannot be read as text",),
    ),
    "plan of a bad file": Command(
        arguments=("plan", "experiment.yaml", "--set", "models=[resnet19]"),
        says=("experiment.yaml: --set models=[resnet19]: models[0]", "did you mean"),
    ),
    "value of an option that the schema refuses": Command(
        arguments=("run", "experiment.yaml", "--set", "seeds=[1]", "--set", "training.epochs=0", "--set", "name=a"),
        says=("experiment.yaml: --set training.epochs=0: training.epochs: 0 is not accepted",),
    ),
    "value of an option that does not fit the data": Command(
        arguments=("run", "experiment.yaml", "--set", "name=a", "--set", "datasets.0.train_sizes=[5000]"),
        says=("experiment.yaml: --set datasets.0.train_sizes=[5000]: datasets[0].train_sizes[0]: 5000 is more",),
    ),
    "value that no option gave": Command(
        arguments=("plan", "bad.yaml", "--set", "seeds=[1]"),
        make=lambda folder: (folder / "bad.yaml").write_text((folder / "experiment.yaml").read_text() + "nme: b\n"),
        says=("bad.yaml: nme: unknown key",),
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
    "accuracy that is none": Command(
        arguments=("rank", "table.csv"),
        make=table("model,test_accuracy\nresnet8,-0.2\n"),
        says=("table.csv: row 1: test_accuracy is -0.2", "from 0 to 1"),
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
    "age without a unit": Command(
        arguments=("cache", "clear", "--older-than", "30"), says=("--older-than 30", "30d", "4w")
    ),
    "age beyond all time": Command(
        arguments=("cache", "clear", "--older-than", "99999999999w"), says=("--older-than 99999999999w", "30d")
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
    "unknown kind of cache entries": (("cache", "clear", "--kind", "weights"), ("--kind", "images", "features")),
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
