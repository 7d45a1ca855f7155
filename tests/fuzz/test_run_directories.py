"""Whatever became of the files of a run directory: a ranking of the trials that are whole, or one message.

A file is cut, overwritten, emptied, removed, put in the place of another, or is a folder or a link to nowhere. Rows of
Parquet carry checksums and the trial's id; `manifest.json` and `experiment.yaml` are texts that people edit, so that
of them only what no edit would leave is asked for: no other error than a message.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raybench
from raybench import ledger
from raybench.results import finished_trial_ids, load_outcomes, read_trial
from raybench.runs import open_run
from tests.commands import raybench as command
from tests.fuzz.damage import attempt, damaged, examples
from tests.made_up_run import MadeUp

TEXTS = frozenset({"manifest.json", "experiment.yaml"})
CONFIGURATION = ["dataset", "train_size", "model", "weights", "strategy"]
DIGITS = 9
"""Means are compared to so many places."""
RUN = MadeUp(
    experiment={
        "datasets": [
            {"name": "shapes", "source": "imagefolder:shapes", "image_size": 32, "train_sizes": [50, "all"]},
        ],
        "seeds": [0, 1],
    },
    images=30,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which nothing is damaged."""
    run_dir = RUN.write(tmp_path_factory.mktemp("whole") / "run")
    ledger.append(run_dir, [entry(ledger.Kind.MACHINE, 90), *(entry(ledger.Kind.COMPLETED, 5) for _ in range(16))])
    return run_dir


def entry(kind: ledger.Kind, seconds: float) -> ledger.Entry:
    return ledger.Entry(session="one", kind=kind, node="here", seconds=seconds, device_share=1.0, usd_per_hour=0.4)


@pytest.fixture(scope="module")
def rows(whole: Path) -> pd.DataFrame:
    return raybench.load_results(whole)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def files_of(run_dir: Path) -> list[Path]:
    return sorted(path.relative_to(run_dir) for path in run_dir.rglob("*") if path.is_file())


def damage(whole: Path, copy: Path, data: st.DataObject) -> set[Path]:
    """Copy a run and damage one to three of its files; return which."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy, copy_function=os.link)
    files = files_of(whole)
    touched = set()
    for _ in range(data.draw(st.integers(1, 3))):
        # Texts are two files of fifty: each kind of file is drawn as often.
        folder = data.draw(st.sampled_from(sorted({path.parent for path in files})))
        path = data.draw(st.sampled_from([file for file in files if file.parent == folder]))
        other = data.draw(st.sampled_from(files))
        touched.add(path)
        _remove(copy / path)
        match data.draw(st.sampled_from(["bytes", "bytes", "bytes", "empty", "gone", "other", "folder", "nowhere"])):
            case "bytes":
                originals = [(whole / each).read_bytes() for each in (path, other)]
                (copy / path).write_bytes(data.draw(damaged(originals)))
            case "empty":
                (copy / path).touch()
            case "other":
                shutil.copyfile(whole / other, copy / path)
            case "folder":
                (copy / path).mkdir()
            case "nowhere":
                (copy / path).symlink_to("nowhere")
    return touched


def _remove(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def averages(rows: pd.DataFrame) -> dict[str, float]:
    """The mean accuracy of each configuration: no two trials of one have the same."""
    return rows.dropna(subset=["test_accuracy"]).groupby(CONFIGURATION)["test_accuracy"].mean().pipe(_by_name)


def ranked(ranking: pd.DataFrame) -> dict[str, float]:
    """The same of a ranking."""
    return ranking.dropna(subset=["test_accuracy"]).set_index(CONFIGURATION)["test_accuracy"].pipe(_by_name)


def _by_name(means: pd.Series) -> dict[str, float]:
    return {str(name): round(float(mean), DIGITS) for name, mean in means.items()}


def readers(run_dir: Path) -> list[Callable[[], object]]:
    """Everything that reads a run directory and ranks nothing."""
    return [
        lambda: open_run(run_dir).results(),
        lambda: finished_trial_ids(run_dir),
        lambda: raybench.load_results(run_dir),
        lambda: raybench.load_history(run_dir),
        lambda: raybench.load_predictions(run_dir),
        lambda: raybench.load_search(run_dir),
        lambda: load_outcomes(run_dir),
        lambda: ledger.summary(ledger.load(run_dir)),
        lambda: [read_trial(run_dir, path.stem) for path in run_dir.glob("results/*")],
        lambda: raybench.weigh(run_dir),
    ]


@examples(shrink=False)
@given(data=st.data())
def test_a_damaged_run_is_ranked_by_its_whole_trials_or_refused(
    whole: Path, rows: pd.DataFrame, place: Path, data: st.DataObject
) -> None:
    run_dir = place / "run"
    touched = damage(whole, run_dir, data)
    for read in readers(run_dir):
        assert attempt(read).message != ""
    ranking = attempt(lambda: raybench.rank(run_dir)).value
    if ranking is None or {path.name for path in touched} & TEXTS:
        return
    # What was damaged and is not refused is gone, or was not damaged in what it says.
    there = {path.stem for path in run_dir.glob("results/*.parquet") if path.is_file()}
    assert ranked(ranking) == averages(rows[rows["trial_id"].isin(there)])


@examples(4 * 8, shrink=False)
@given(data=st.data())
def test_commands_on_a_damaged_run_end_with_a_status_of_their_own(
    whole: Path, place: Path, data: st.DataObject
) -> None:
    run_dir = place / "commanded"
    damage(whole, run_dir, data)
    assert command("show", run_dir) in {0, 2}
    assert command("rank", run_dir) in {0, 2}
    assert command("report", run_dir, "--output", place / "report.html") in {0, 2}


def test_what_is_damaged_here_is_a_run_at_first(whole: Path, rows: pd.DataFrame) -> None:
    assert len(rows) == 16
    found = ranked(raybench.rank(whole))
    assert found == averages(rows)
    assert len(found) == 8
    assert rows.groupby(CONFIGURATION)["test_accuracy"].nunique().min() == 2
