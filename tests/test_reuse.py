"""What a run takes over from others: which trials and tries, which files, and what it says of them."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from raybench.choices import Choices
from raybench.errors import RunError
from raybench.experiment import load_experiment
from raybench.manifest import write_manifest
from raybench.plan import Plan, TakenOver, make_plan
from raybench.records import Status, Trial
from raybench.report.views import plan_view
from raybench.results import finished_trial_ids, load_history, load_predictions, load_results, write_trial
from raybench.reuse import Reuse
from raybench.runner import trials_to_go
from raybench.runs import Run, open_run
from raybench.training import preflight
from raybench.trials import first_row, searches_of
from raybench.tries import FOLDER
from tests.commands import raybench
from tests.made_up_run import SMALL, MadeUp

SHAPES: dict[str, Any] = {**SMALL["datasets"][0], "train_sizes": [50]}
ONE_SIZE: dict[str, Any] = {"datasets": [SHAPES], "seeds": [0, 1]}
"""Four configurations, two seeds: eight trials."""
AUTO: dict[str, Any] = {**ONE_SIZE, "models": ["resnet8"], "training": {"epochs": 3, "learning_rate": "auto"}}
COMPLETED = 5
SHARED = "backbone-00.safetensors"


def endings(trial: Trial) -> Mapping[str, Any] | None:
    """Of seed 1, one trial failed, one was stopped, one has not ended."""
    odd: dict[tuple[str, str, int], Mapping[str, Any] | None] = {
        ("resnet8", "fine-tune", 1): {"status": Status.FAILED},
        ("resnet20", "fine-tune", 1): {"status": Status.STOPPED},
        ("resnet20", "linear-probe", 1): None,
    }
    return odd.get((trial.model.name, trial.strategy.name, trial.seed), {})


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Another run, five trials of which completed; those of a probe share their backbone's weights."""
    run_dir = MadeUp(experiment=ONE_SIZE, changes=endings).write(tmp_path / "theirs")
    folder = run_dir / "checkpoints"
    folder.mkdir()
    (folder / SHARED).write_bytes(b"a backbone")
    for trial in open_run(run_dir).trials:
        is_probe = trial.strategy.name == "linear-probe"
        (folder / f"{trial.trial_id}.safetensors").write_bytes(trial.trial_id.encode())
        (folder / f"{trial.trial_id}.json").write_text(f'{{"backbone_file": "{SHARED}"}}' if is_probe else "{}")
    return run_dir


def to_be_run(tmp_path: Path, **experiment: object) -> Run:
    """Return a run that has not begun: it has no directory yet."""
    model = MadeUp(experiment={**ONE_SIZE, **experiment}, changes=lambda _: None).write(tmp_path / "model")
    return replace(open_run(model), run_dir=tmp_path / "ours")


def take_over(run: Run, *others: Path) -> str:
    """Take over what there is for a run, before and after its search, and return what is said."""

    def start(rates: Mapping[str, float]) -> None:
        run.run_dir.mkdir(exist_ok=True)
        write_manifest(run.run_dir, run.experiment, run.facts, Choices(), rates, prices={})

    said = io.StringIO()
    console = Console(file=said, width=1000)
    reuse = Reuse(others, run.run_dir)
    for is_last in (False, True):
        reuse.take_over(run.experiment, run.facts, console, start, is_last=is_last)
    return said.getvalue()


def files(run_dir: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def of_completed(run_dir: Path) -> dict[str, bytes]:
    """Return the files of trials that completed, and of the backbone that they share."""
    statuses = finished_trial_ids(run_dir)
    ids = {trial_id for trial_id, status in statuses.items() if status is Status.COMPLETED}
    return {name: data for name, data in files(run_dir).items() if Path(name).stem in ids or SHARED in name}


def test_completed_trials_are_copied_as_they_are_and_no_others(theirs: Path, tmp_path: Path) -> None:
    before = files(theirs)
    run = to_be_run(tmp_path)
    assert take_over(run, theirs) == f"Taken over from {theirs}: {COMPLETED} trials\n"
    ours = {name: data for name, data in files(run.run_dir).items() if "/" in name}
    assert ours == of_completed(theirs)
    assert len(ours) == COMPLETED * 5 + 1, "row, epochs, predictions, weights and card of each, and a backbone"
    assert files(theirs) == before
    assert len(load_predictions(run.run_dir)) == COMPLETED * 300
    columns = ["trial_id", "node", "instance_type", "train_seconds", "standalone_seconds"]
    rows, origin = load_results(run.run_dir), load_results(theirs)
    pd.testing.assert_frame_equal(
        rows[columns], origin[origin["status"] == "completed"][columns].reset_index(drop=True)
    )


def test_labels_follow_the_new_experiment(theirs: Path, tmp_path: Path) -> None:
    spelled = {"name": "probe", "phases": [{"train": "head"}]}
    run = to_be_run(tmp_path, strategies=[spelled, "fine-tune"], seeds=[0])
    assert "4 trials" in take_over(run, theirs)
    assert sorted(run.results()["strategy"]) == ["fine-tune", "fine-tune", "probe", "probe"]
    assert set(run.results()["status"]) == {"completed"}


def test_a_trial_of_other_settings_is_not_taken_over(theirs: Path, tmp_path: Path) -> None:
    run = to_be_run(tmp_path, training={"epochs": 4})
    said = take_over(run, theirs)
    assert said == f"Taken over from {theirs}: nothing; it has completed none of what is to go\n"
    assert not run.run_dir.exists()


def test_what_is_here_already_stays(theirs: Path, tmp_path: Path) -> None:
    run = to_be_run(tmp_path)
    take_over(run, theirs)
    before = {path: path.stat().st_mtime_ns for path in run.run_dir.rglob("*.parquet")}
    assert "nothing" in take_over(run, theirs)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("status", [Status.FAILED, Status.UNFINISHED])
def test_a_trial_that_failed_or_began_here_gives_way_to_one_that_completed(
    status: Status, theirs: Path, tmp_path: Path
) -> None:
    run = to_be_run(tmp_path)
    take_over(run, theirs)
    first = next(trial for trial in run.trials if trial.strategy.name == "fine-tune")
    write_trial(run.run_dir, first_row(first, status), [], None)
    state = run.run_dir / "checkpoints" / f"{first.trial_id}.pt"
    state.touch()
    assert take_over(run, theirs) == f"Taken over from {theirs}: 1 trial\n"
    assert finished_trial_ids(run.run_dir)[first.trial_id] is Status.COMPLETED
    assert not state.exists()


def test_several_runs_give_what_the_ones_before_lack(theirs: Path, tmp_path: Path) -> None:
    more = MadeUp(experiment={**ONE_SIZE, "seeds": [1, 2]}).write(tmp_path / "more")
    run = to_be_run(tmp_path, seeds=[0, 1, 2])
    assert take_over(run, theirs, more, theirs).splitlines() == [
        f"Taken over from {theirs}: {COMPLETED} trials",
        f"Taken over from {more}: 7 trials (7 without weights, which are not there any more)",
    ]
    assert set(finished_trial_ids(run.run_dir)) == {trial.trial_id for trial in run.trials}


@pytest.mark.parametrize("folder", ["results", "history", "predictions"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
def test_a_damaged_trial_is_told_once_and_left(
    folder: str, content: bytes | None, theirs: Path, tmp_path: Path
) -> None:
    run = to_be_run(tmp_path)
    trial_id = run.trials[0].trial_id
    path = theirs / folder / f"{trial_id}.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    said = take_over(run, theirs).splitlines()
    assert said[-1] == f"Taken over from {theirs}: {COMPLETED - 1} trials"
    notes = [] if (folder, content) == ("results", None) else [f"Note: {path} is missing or damaged, so "]
    assert [line[: len(note)] for line, note in zip(said[:-1], notes, strict=True)] == notes
    assert not [name for name in files(run.run_dir) if trial_id in name]


@pytest.mark.parametrize("missing", [".safetensors", ".json", SHARED])
def test_scores_are_taken_over_without_weights_that_are_gone(missing: str, theirs: Path, tmp_path: Path) -> None:
    for path in (theirs / "checkpoints").glob(f"*{missing}"):
        path.unlink()
    run = to_be_run(tmp_path, strategies=["linear-probe"], seeds=[0])
    assert "2 trials (2 without weights, which are not there any more)" in take_over(run, theirs)
    assert not (run.run_dir / "checkpoints").exists()


@pytest.mark.parametrize("folder", ["checkpoints", "history", "predictions", "results"])
def test_a_copy_that_comes_to_nothing_leaves_no_trial_that_counts(folder: str, theirs: Path, tmp_path: Path) -> None:
    run = to_be_run(tmp_path)
    run.run_dir.mkdir()
    (run.run_dir / folder).write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"ours: cannot be written to.*another --run-dir"):
        take_over(run, theirs)
    assert not list(run.run_dir.glob("results/*"))
    (run.run_dir / folder).unlink()
    assert f"{COMPLETED} trials\n" in take_over(run, theirs)
    assert load_results(run.run_dir)["trial_id"].nunique() == load_history(run.run_dir)["trial_id"].nunique()


def tried(run_dir: Path, *, broken: bool = False) -> Run:
    """Write a run in which rates were tried: the highest diverged, one failed where it is `broken`."""
    run = open_run(MadeUp(experiment=AUTO, changes=lambda _: None).write(run_dir))
    for search in searches_of(run.experiment, run.facts):
        for factor, trial in zip(search.factors, search.tries, strict=True):
            row = replace(first_row(trial, Status.COMPLETED), val_loss=abs(factor - 0.3), test_accuracy=0.5)
            if factor == max(search.factors):
                row = replace(row, status=Status.FAILED, error="x.DivergedError: no number", val_loss=None)
            if broken and factor == 1.0:
                row = replace(row, status=Status.FAILED, error="RuntimeError: no memory", val_loss=None)
            write_trial(run_dir / FOLDER, row, [], None)
    return run


def test_tries_are_taken_over_and_with_them_the_trials_that_have_the_rate_chosen(tmp_path: Path) -> None:
    made = tried(tmp_path / "theirs")
    write_manifest(
        made.run_dir,
        made.experiment,
        made.facts,
        Choices(),
        {search.search_id: 0.3 for search in searches_of(made.experiment, made.facts)},
    )
    there = open_run(made.run_dir)
    for trial in there.trials:
        write_trial(there.run_dir, first_row(trial, Status.COMPLETED), [], None)
    ours = replace(made, run_dir=tmp_path / "ours")

    said = take_over(ours, there.run_dir)

    assert said.startswith(f"Taken over from {there.run_dir}: 4 trials, 10 tries")
    assert set(finished_trial_ids(ours.run_dir)) == {trial.trial_id for trial in there.trials}
    opened = open_run(ours.run_dir)
    assert opened.trials == there.trials
    pd.testing.assert_frame_equal(opened.search(), there.search())
    copied = {name: data for name, data in files(ours.run_dir).items() if name.startswith(FOLDER)}
    assert copied == {name: data for name, data in files(there.run_dir).items() if name.startswith(FOLDER)}


def test_a_try_that_failed_is_to_be_tried_anew(tmp_path: Path) -> None:
    there = tried(tmp_path / "theirs", broken=True)
    ours = replace(there, run_dir=tmp_path / "ours")
    assert take_over(ours, there.run_dir) == f"Taken over from {there.run_dir}: 8 tries\n"
    assert open_run(ours.run_dir).search()["outcome"].value_counts().to_dict() == {
        "ended": 6,
        "diverged": 2,
        "unfinished": 2,
    }


def of_the_future(run_dir: Path, folder: str) -> None:
    path = next(run_dir.glob(f"{folder}/*.parquet"))
    table = pq.read_table(path)
    index = table.column_names.index("schema_version")
    pq.write_table(table.set_column(index, "schema_version", pa.array([99])), path)


def test_what_cannot_be_taken_over_from_is_named_before_anything_starts(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(theirs)
    future = [tried(tmp_path / "later").run_dir, MadeUp(experiment=ONE_SIZE).write(tmp_path / "latest")]
    for run_dir, folder in zip(future, (f"{FOLDER}/results", "results"), strict=True):
        of_the_future(run_dir, folder)
    broken = MadeUp(experiment=ONE_SIZE, changes=lambda _: None).write(tmp_path / "broken")
    (broken / "manifest.json").write_text("{")
    for path, says in {
        tmp_path / "gone": "no such run directory",
        tmp_path / "folder": "is no run directory: it has no manifest.json",
        theirs: "is the directory of this run itself",
        tmp_path / "link": "is the directory of this run itself",
        broken: "manifest.json: cannot be read",
        future[0]: "results of schema version 99, but this raybench reads versions up to 1",
        future[1]: "results of schema version 99, but this raybench reads versions up to 1",
    }.items():
        with pytest.raises(RunError) as caught:
            Reuse(str(path), theirs)
        assert str(caught.value).startswith(f"--reuse {path}")
        assert says in str(caught.value)


def previewed(run: Run, *others: Path) -> dict[str, TakenOver]:
    return Reuse(others, run.run_dir).preview(run.experiment, run.facts, Console(file=io.StringIO()))


def plan_text(plan: Plan, run: Run) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(plan_view(plan, run.facts))
    return " ".join(console.export_text().split())


def test_a_plan_says_what_would_be_taken_over_and_counts_its_epochs_as_done(theirs: Path, tmp_path: Path) -> None:
    more = MadeUp(experiment={**ONE_SIZE, "seeds": [1, 2]}).write(tmp_path / "more")
    run = to_be_run(tmp_path, seeds=[0, 1, 2])
    taken = previewed(run, theirs, more)
    assert not run.run_dir.exists()
    plan = make_plan(run.experiment, run.facts, run.run_dir, taken)
    assert f"{COMPLETED} trials from {theirs}; 7 trials from {more} " in plan_text(plan, run)
    assert (len(plan.trials), plan.most_epochs) == (12, 0)
    assert trials_to_go(run.experiment, run.facts, run.run_dir, taken) == []
    assert len(trials_to_go(run.experiment, run.facts, run.run_dir)) == 12
    take_over(run, theirs, more)
    completed = {trial_id for each in taken.values() for trial_id in each.trials}
    assert set(finished_trial_ids(run.run_dir)) == completed, "what was said is what is taken over"


def test_a_plan_says_where_nothing_would_be_taken_over(theirs: Path, tmp_path: Path) -> None:
    run = to_be_run(tmp_path, training={"epochs": 4})
    plan = make_plan(run.experiment, run.facts, run.run_dir, previewed(run, theirs))
    assert f"nothing from {theirs} (it has completed none of what is to go)" in plan_text(plan, run)
    assert plan.most_epochs == 8 * 4


def test_a_plan_knows_the_trials_whose_rates_follow_from_tries_that_would_be_taken_over(tmp_path: Path) -> None:
    made = tried(tmp_path / "theirs")
    rates = {search.search_id: 0.3 for search in searches_of(made.experiment, made.facts)}
    write_manifest(made.run_dir, made.experiment, made.facts, Choices(), rates)
    there = open_run(made.run_dir)
    for trial in there.trials:
        write_trial(there.run_dir, first_row(trial, Status.COMPLETED), [], None)
    ours = replace(made, run_dir=tmp_path / "ours")
    plan = make_plan(ours.experiment, ours.facts, ours.run_dir, previewed(ours, there.run_dir))
    assert f"4 trials and 10 tries from {there.run_dir}" in plan_text(plan, ours)
    assert plan.most_epochs == 0
    assert plan.search is not None
    assert plan.search.to_go == 0


def test_plan_takes_reuse_as_run_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        "name: small\ndatasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]\n"
        "models: [resnet8]\nweights: [random]\nstrategies: [linear-probe, fine-tune]\nseeds: [0, 1]\n"
    )
    experiment = load_experiment(file)
    facts = preflight.check(experiment, str(file))
    there = tmp_path / "there"
    write_manifest(there, experiment, facts, Choices())
    for trial in open_run(there).trials[:3]:
        write_trial(there, first_row(trial, Status.COMPLETED), [], None)
    options = ("plan", file, "--run-dir", tmp_path / "ours", "--reuse")
    assert raybench(*options, there) == 0
    assert "3 trials from " in capsys.readouterr().out
    assert not (tmp_path / "ours").exists()
    assert raybench(*options, tmp_path / "gone") == 2
    assert f"--reuse {tmp_path / 'gone'}: no such run directory" in capsys.readouterr().err
