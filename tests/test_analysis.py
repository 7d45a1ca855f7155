"""The scripts in analysis/, on a real run, on published tables and on results that plain Ray Tune wrote."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ray import tune

import raybench
from raybench.scheduling.cluster import quiet_ray, ray_session

ROOT = Path(__file__).parent.parent
FIRST_STUDY = ROOT / "tests" / "data" / "resnet_cost_performance.csv"
SECOND_STUDY = ROOT / "tests" / "data" / "alexnet_vs_resnet_history.csv"
SCRIPTS = ("cost_accuracy", "learning_curves", "gains")
EXPERIMENT = """
name: small
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [40, 80]}]
models: [resnet8]
weights: [random]
strategies: [linear-probe, linear-probe+augment]
seeds: [0, 1]
training: {epochs: 2, batch_size: 40}
scheduler: none
"""


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "analysis" / f"{script}.py"), *map(str, arguments)]
    variables = os.environ | {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def answer(script: str, *arguments: str | Path) -> str:
    done = run(script, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def refusal(script: str, *arguments: str | Path) -> str:
    done = run(script, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def page(plot: Path) -> str:
    """Return a plot's page, which must need no network."""
    text = plot.read_text()
    assert "<script src=" not in text
    return text


def line(text: str, words: str) -> list[str]:
    """Return the cells of the only line that begins with these words."""
    (found,) = [each.strip() for each in text.splitlines() if each.strip().startswith(words + "  ")]
    return re.split(r"\s{2,}", found)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysis")
    file = folder / "small.yaml"
    file.write_text(EXPERIMENT)
    run = raybench.run(file, run_dir=folder / "run", num_cpus=2, quiet=True)
    assert run.failed == 0
    return run.run_dir


def report_epochs(config: dict[str, object]) -> None:
    """Train nothing: report as trainables of others do, with test accuracy at the end only."""
    for epoch in range(3):
        last = {"test_acc": 0.6 if config["mode"] == "fine-tune" else 0.5} if epoch == 2 else {}
        tune.report({"loss": [0.9, 0.4, 0.7][epoch], "valid": {"accuracy": [50.0, 80.0, 70.0][epoch]}, **last})
    if config["mode"] == "broken":
        raise ValueError("as asked for")


@pytest.fixture(scope="module")
def tune_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    space = {"arch": "net", "mode": tune.grid_search(["linear-probe", "fine-tune", "broken"]), "batch": 8}
    with ray_session(num_cpus=2), quiet_ray():
        config = tune.RunConfig(name="theirs", storage_path=str(folder), verbose=0)
        tune.Tuner(report_epochs, param_space=space, run_config=config).fit()
    return folder / "theirs"


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_says_what_it_answers_and_is_short(script: str) -> None:
    source = (ROOT / "analysis" / f"{script}.py").read_text()
    assert "?" in source.splitlines()[0]
    assert len(source.splitlines()) < 60
    question = re.search(r'"""(.*\?)', source)
    assert question is not None
    assert question[1] in " ".join(answer(script, "--help").split())


@pytest.mark.parametrize(
    ("script", "source", "says"),
    [
        ("cost_accuracy", SECOND_STUDY, "no complete configuration has train_seconds"),
        ("learning_curves", FIRST_STUDY, "holds no epochs"),
        ("gains", ROOT / "nothing.csv", "there is no such file"),
    ],
)
def test_source_without_what_is_asked_for_is_refused(script: str, source: Path, says: str) -> None:
    assert f"Error: {source}: {says}" in refusal(script, source)


def test_plot_of_another_kind_is_refused_before_anything_is_printed(tmp_path: Path) -> None:
    assert "ends in .html" in refusal("gains", FIRST_STUDY, "--output", tmp_path / "plot.jpeg")


def test_frontier_of_the_first_study_and_what_a_point_costs_along_it(tmp_path: Path) -> None:
    text = answer("cost_accuracy", FIRST_STUDY, "--output", tmp_path / "plot.html")
    assert "resnet50 fine_tuned+augmented" in page(tmp_path / "plot.html")
    at_833 = text.partition("train_size=2280")[0]
    assert line(at_833, "resnet18 fine_tuned") == ["resnet18 fine_tuned", "1 min 00 s", "0.7711", "-", "F", "-", "-"]
    # 40 s more for 0.60 points, then 40 s more for 2.41
    assert line(at_833, "resnet50 fine_tuned")[1:] == ["1 min 40 s", "0.7771", "-", "F", "+0.60", "1 min 07 s"]
    assert line(at_833, "resnet50 fine_tuned+augmented")[1:] == ["2 min 20 s", "0.8012", "-", "F", "+2.41", "17 s"]
    assert "F" not in line(at_833, "resnet50 plain")


def test_cost_counts_in_usd_where_every_cost_is_known(tmp_path: Path) -> None:
    table = pd.DataFrame({"model": ["a", "b"], "test_accuracy": [0.5, 0.6], "train_seconds": [9, 8]})
    table.assign(standalone_cost_usd=[0.5, 2.5]).to_csv(tmp_path / "priced.csv", index=False)
    assert line(answer("cost_accuracy", tmp_path / "priced.csv"), "b")[1:] == [
        "$2.50",
        "0.6000",
        "-",
        "F",
        "+10.00",
        "$0.20",
    ]


def test_gains_of_the_first_study_at_each_size(tmp_path: Path) -> None:
    text = answer("gains", FIRST_STUDY, "--output", tmp_path / "plot.html")
    assert "augmentation" in page(tmp_path / "plot.html")
    sizes = re.findall(r"train_size=(\d+), ([a-z-]+): ([+-][\d.]+) points on average", text)
    assert sizes == [
        ("833", "fine-tuning", "+10.4"), ("833", "augmentation", "+1.1"),
        ("2280", "fine-tuning", "+4.7"), ("2280", "augmentation", "+0.6"),
        ("19104", "fine-tuning", "+3.6"), ("19104", "augmentation", "-0.7"),
    ]  # fmt: skip
    pair = line(text.partition("train_size=2280")[0], "resnet50: plain -> fine_tuned")
    assert pair[1:] == ["0.6145", "0.7771", "+16.3", "-", "1.4", "1"]


def test_learning_curves_of_the_second_study_end_with_its_best_accuracies(tmp_path: Path) -> None:
    text = answer("learning_curves", SECOND_STUDY, "--output", tmp_path / "plot.html")
    assert "alexnet linear-probe" in page(tmp_path / "plot.html")
    best = {
        "alexnet fine-tune": "0.9020", "alexnet linear-probe": "0.9477",
        "resnet18 fine-tune": "0.9477", "resnet18 linear-probe": "0.9542",
    }  # fmt: skip
    assert {name: line(text, name)[2] for name in best} == best
    assert len(re.findall(r"^ +\d+ +0\.\d{4}", text, re.MULTILINE)) == 60


def test_chosen_trials_alone_are_shown() -> None:
    text = answer("learning_curves", SECOND_STUDY, "--trial", "alexnet fine-tune", "--trial", "resnet18 linear-probe")
    assert len(re.findall("best val accuracy 0", text)) == 2
    assert "alexnet linear-probe" not in text
    assert "no trial's name holds 'vgg'" in refusal("learning_curves", SECOND_STUDY, "--trial", "vgg")


def test_run_is_answered_with_its_own_numbers(small_run: Path) -> None:
    results = raybench.load_results(small_run)
    mean = results.groupby(["train_size", "strategy"])["test_accuracy"].mean().map("{:.4f}".format)
    costs, differences = (answer(script, small_run).split("train_size=") for script in ("cost_accuracy", "gains"))
    for at_size, differing in zip(costs[1:], differences[1:], strict=True):
        size = int(at_size.split(":")[0])
        before, after = (mean[size, f"linear-probe{end}"] for end in ("", "+augment"))
        assert line(at_size, "resnet8 random linear-probe")[2] == before
        assert line(at_size, "resnet8 random linear-probe+augment")[2] == after
        pair = line(differing, "resnet8 random: linear-probe -> linear-probe+augment")
        assert (pair[1], pair[2], pair[-1]) == (before, after, "2")
        assert float(pair[4]) > 0


def test_learning_curves_of_a_run_show_epochs_of_chosen_trials_only_when_there_are_many(small_run: Path) -> None:
    everything = answer("learning_curves", small_run)
    assert "--trial WORDS" in everything
    assert "train loss" not in everything
    chosen = answer("learning_curves", small_run, "--trial", "linear-probe+augment train_size=80 seed=1")
    history = raybench.load_history(small_run).merge(raybench.load_results(small_run), on="trial_id")
    rows = history[
        (history["strategy"] == "linear-probe+augment") & (history["train_size"] == 80) & (history["seed"] == 1)
    ]
    assert [f"{loss:.4f}" in chosen for loss in rows["train_loss_x"]] == [True, True]
    assert f"best val accuracy {rows['val_accuracy_x'].max():.4f}" in chosen


def test_results_that_plain_ray_tune_wrote_are_read_and_said_how(tune_results: Path) -> None:
    text = answer("cost_accuracy", tune_results)
    assert line(text, "net fine-tune")[2] == "0.6000"
    assert "net broken" not in text
    assert "Left out, for seeds that did not complete: 1 configurations" in text
    said = " ".join(text.split())
    for source in ("val_loss from loss", "val_accuracy from valid/accuracy (percent)", "model from arch"):
        assert source in said
    assert line(answer("gains", tune_results), "net: linear-probe -> fine-tune")[1:4] == ["0.5000", "0.6000", "+10.0"]
    assert line(answer("learning_curves", tune_results), "net broken")[1:4] == ["0.4000", "0.8000", "3"]


def test_ray_tune_results_without_json_or_cut_off_by_a_crash_are_read(tune_results: Path, tmp_path: Path) -> None:
    shutil.copytree(tune_results, tmp_path / "theirs")
    first, second, _ = sorted(path.parent for path in tmp_path.glob("theirs/*/params.json"))
    (first / "result.json").unlink()
    log = (second / "result.json").read_text()
    (second / "result.json").write_text(log[:-20])
    text = answer("learning_curves", tmp_path / "theirs")
    assert [line(text, f"net {mode}")[3] for mode in ("linear-probe", "fine-tune", "broken")] == ["3", "2", "3"]


def test_ray_tune_results_without_reports_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "params.json").write_text(json.dumps({"lr": 0.1}))
    assert "none of its 1 trials reported anything" in refusal("cost_accuracy", tmp_path)
    (tmp_path / "trial" / "params.json").write_text("{")
    assert "cannot be read as results of Ray Tune" in refusal("gains", tmp_path)
