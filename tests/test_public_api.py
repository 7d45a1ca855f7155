"""What `import raybench` gives, and what it costs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import raybench
from raybench.choices import Choices
from raybench.experiment import load_experiment
from raybench.foreign import load_source
from raybench.manifest import write_manifest
from raybench.records import EpochRecord, Facts, Status, Trial, TrialResult
from raybench.results import Predictions, write_trial
from raybench.training import preflight
from raybench.trials import expand

HELP_SECONDS = 0.5
ATTEMPTS = 5

EXPERIMENT = """
name: small
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [20]}]
models: [resnet8, resnet20]
strategies: [linear-probe]
seeds: [0, 1]
training: {epochs: 1}
"""


def python(code: str) -> str:
    """Run code in a fresh process and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_exactly_these_names_are_public() -> None:
    tables = ["load_history", "load_predictions", "load_results", "load_search"]
    answers = ["mean_gains", "more_images", "pair_gains", "predict_sizes", "rank"]
    assert raybench.__all__ == ["Run", "budgets", *tables, *answers, "resume", "run", "weigh"]
    assert dir(raybench) == raybench.__all__
    for name in raybench.__all__:
        assert (getattr(raybench, name).__doc__ or "").strip()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'raybench' has no attribute 'rnk'"):
        _ = raybench.rnk


INVOKE = "import typer.testing, raybench.cli as c; assert not typer.testing.CliRunner().invoke(c.app, {}).exit_code"
LIGHT = {"import": "import raybench", "command line": "import raybench.cli", "help": INVOKE.format(["--help"])}
LIGHT |= {"help of a command": INVOKE.format(["run", "--help"]), "schema": INVOKE.format(["schema"])}


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT)
def test_neither_torch_nor_ray_is_loaded_before_it_is_needed(code: str) -> None:
    assert (
        python(f"{code}; import sys; print({{'torch', 'torchvision', 'ray', 'pandas'}} & set(sys.modules))") == "set()"
    )


READERS = {
    "cache show": INVOKE.format(["cache", "show"]),
    "rank": INVOKE.format(["rank", str(Path(__file__).parent / "data" / "alexnet_vs_resnet_history.csv")]),
}


@pytest.mark.parametrize("code", READERS.values(), ids=READERS)
def test_neither_torch_nor_ray_is_loaded_where_nothing_is_trained(code: str) -> None:
    assert python(f"{code}; import sys; print({{'torch', 'torchvision', 'ray'}} & set(sys.modules))") == "set()"


def test_help_answers_at_once() -> None:
    command = [str(Path(sys.executable).with_name("raybench")), "--help"]
    assert min(seconds_of(command) for _ in range(ATTEMPTS)) < HELP_SECONDS


def seconds_of(command: list[str]) -> float:
    """Return the processor time of a command, which busy neighbours lengthen less than the time on the clock."""
    with Path(os.devnull).open("w") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models and two seeds, all of it ended; resnet20 is right more often."""
    folder = tmp_path_factory.mktemp("api")
    file = folder / "small.yaml"
    file.write_text(EXPERIMENT)
    experiment = load_experiment(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBENCH_CACHE_DIR", str(folder / "cache"))
        facts = preflight.check(experiment, str(file))
    write_manifest(folder / "run", experiment, facts, Choices())
    for trial in expand(experiment, facts):
        write_ended(folder / "run", trial, facts)
    return folder / "run"


def write_ended(run_dir: Path, trial: Trial, facts: Facts) -> None:
    images = facts.datasets["digits"].test_images or 0
    right = images if trial.model.name == "resnet20" else images // 2
    labels = [index % 10 for index in range(images)]
    predicted = [label if index < right else (label + 1) % 10 for index, label in enumerate(labels)]
    epoch = EpochRecord(
        trial_id=trial.trial_id,
        phase=1,
        epoch=1,
        train_loss=1.0,
        train_accuracy=0.5,
        val_loss=0.5,
        val_accuracy=right / images,
        learning_rate=0.001,
        epoch_seconds=2.0,
        images_per_second=10.0,
    )
    result = TrialResult(
        trial_id=trial.trial_id,
        dataset="digits",
        train_size=trial.train_size,
        model=trial.model.name,
        weights=trial.weights,
        strategy=trial.strategy.name,
        augmentation=trial.strategy.augmentation,
        seed=trial.seed,
        status=Status.COMPLETED,
        val_loss=0.5,
        val_accuracy=right / images,
        test_accuracy=right / images,
        train_seconds=2.0,
    )
    predictions = Predictions(
        images=tuple(f"test/{index}" for index in range(images)),
        labels=np.array(labels),
        predicted=np.array(predicted),
        probabilities=np.eye(10)[predicted],
    )
    write_trial(run_dir, result, [epoch], predictions)


def test_tables_of_a_run_are_dataframes_with_one_row_a_trial_an_epoch_an_image(run_dir: Path) -> None:
    results = raybench.load_results(run_dir)
    assert list(results[["model", "seed"]].itertuples(index=False, name=None)) == [
        ("resnet20", 0),
        ("resnet20", 1),
        ("resnet8", 0),
        ("resnet8", 1),
    ]
    assert list(raybench.load_history(run_dir)["epoch"]) == [1, 1, 1, 1]
    assert len(raybench.load_predictions(run_dir)) == 4 * 300


def test_trials_that_the_experiment_no_longer_asks_for_are_in_no_table(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(run_dir.parent / "cache"))
    changed = tmp_path / "run"
    shutil.copytree(run_dir, changed)
    raybench.run(run_dir.parent / "small.yaml", run_dir=changed, overrides=["seeds=[0]"])
    assert "2 earlier trials in" in " ".join(capsys.readouterr().out.split())
    assert list(raybench.load_results(changed)["seed"]) == [0, 0]
    assert len(raybench.load_history(changed)) == 2
    assert len(raybench.load_predictions(changed)) == 2 * 300
    assert len(list((changed / "results").glob("*.parquet"))) == 4, "kept, not deleted"


def test_rank_takes_a_run_directory_its_path_as_text_a_list_and_a_dataframe(run_dir: Path) -> None:
    ranking = raybench.rank(run_dir)
    assert list(ranking["model"]) == ["resnet20", "resnet8"]
    assert list(ranking["rank"]) == [1, 2]
    assert list(ranking["pick"]) == [True, False]
    for same in (str(run_dir), [run_dir]):
        pd.testing.assert_frame_equal(raybench.rank(same), ranking)
    plain = raybench.rank(raybench.load_results(run_dir))
    pd.testing.assert_frame_equal(
        plain[["model", "rank", "test_accuracy"]], ranking[["model", "rank", "test_accuracy"]]
    )


def test_a_dataframe_of_ones_own_can_be_ranked_by_another_column() -> None:
    own = pd.DataFrame({"model": ["a", "b"], "test_accuracy": [0.9, 0.8], "train_seconds": [50.0, 5.0]})
    assert list(raybench.rank(own)["model"]) == ["a", "b"]
    assert list(raybench.rank(own, by="train_seconds")["model"]) == ["b", "a"]


def test_questions_of_value_take_what_rank_takes(run_dir: Path) -> None:
    weighed = raybench.weigh(run_dir)
    assert list(weighed["pick"]) == [model == "resnet20" for model in weighed["model"]]
    assert list(raybench.budgets(weighed)["model"]) == ["resnet20"]
    (gain,) = raybench.pair_gains(run_dir).to_dict("records")
    assert (gain["kind"], gain["before"], gain["after"]) == ("depth", "resnet8", "resnet20")
    assert raybench.mean_gains(run_dir)["difference"].to_list() == pytest.approx([gain["difference"]])
    for answers in (raybench.predict_sizes(run_dir)["reason"], raybench.more_images(str(run_dir))["answer"]):
        assert answers.str.contains("1 training-set size has an accuracy, and a curve needs 3").all()
    own = pd.DataFrame({"net": ["resnet8", "resnet20"], "test_accuracy": [0.8, 0.9]})
    named = {"model": "net"}
    assert raybench.pair_gains(own, test_images=1000, columns=named)["told_apart"].to_list() == [True]
    assert raybench.weigh(load_source(run_dir))["model"].to_list() == weighed["model"].to_list()


def test_run_on_a_finished_directory_starts_nothing_and_returns_its_tables(run_dir: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBENCH_CACHE_DIR", str(run_dir.parent / "cache"))
        run = raybench.run(run_dir.parent / "small.yaml", run_dir=run_dir, quiet=True)
        again = raybench.resume(run_dir, quiet=True)
    assert isinstance(run, raybench.Run)
    assert not run.interrupted
    assert run.failed == 0
    assert len(run.trials) == 4
    pd.testing.assert_frame_equal(run.results(), raybench.load_results(run_dir))
    assert again.trials == run.trials
