"""The scripts in analysis/, on a run directory, on published tables and on results that plain Ray Tune wrote."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from ray import tune

import raybench
from raybench.scheduling.cluster import quiet_ray, ray_session
from tests.commands import Done
from tests.made_up_run import EPOCHS, MadeUp

pytestmark = pytest.mark.minutes

ROOT = Path(__file__).parent.parent
FIRST_STUDY = ROOT / "tests" / "data" / "resnet_cost_performance.csv"
SECOND_STUDY = ROOT / "tests" / "data" / "alexnet_vs_resnet_history.csv"
TERMINAL = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
SCRIPTS = ("cost_accuracy", "learning_curves", "gains", "how_much_data")
EXPERIMENT = {
    "datasets": [{"name": "digits", "source": "imagefolder:digits", "image_size": 16, "train_sizes": [40, 80, 160]}],
    "models": ["resnet8"],
    "weights": ["random"],
    "strategies": ["linear-probe", "linear-probe+augment"],
    "seeds": [0, 1],
}


def run(script: str, *arguments: str | Path) -> Done:
    """Run a script as `python analysis/SCRIPT.py` does, in this process: importing what it needs takes seconds."""
    path = ROOT / "analysis" / f"{script}.py"
    status: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        patch.syspath_prepend(path.parent)
        for name, value in TERMINAL.items():
            patch.setenv(name, value)
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as left:
            status = left.code or 0
    assert isinstance(status, int)
    return Done(status=status, out=out.getvalue(), err=err.getvalue())


def answer(script: str, *arguments: str | Path) -> str:
    done = run(script, *arguments)
    assert done.status == 0, done.err
    assert done.err == ""
    return done.out


def refusal(script: str, *arguments: str | Path) -> str:
    done = run(script, *arguments)
    assert done.status == 2
    assert done.out == ""
    return done.err


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
    return MadeUp(experiment=EXPERIMENT).write(tmp_path_factory.mktemp("analysis") / "run")


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


def test_script_runs_by_itself() -> None:
    command = [sys.executable, str(ROOT / "analysis" / "gains.py"), str(FIRST_STUDY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | TERMINAL)
    assert done.stderr == ""
    assert done.stdout == answer("gains", FIRST_STUDY)


@pytest.mark.parametrize(
    ("script", "source", "says"),
    [
        ("cost_accuracy", SECOND_STUDY, "no complete configuration has a cost of training"),
        (
            "how_much_data",
            SECOND_STUDY,
            "no curve can be fitted: no training-set sizes have an accuracy, and a curve needs 3",
        ),
        ("learning_curves", FIRST_STUDY, "holds no epochs"),
        ("gains", ROOT / "nothing.csv", "there is no such file"),
    ],
)
def test_source_without_what_is_asked_for_is_refused(script: str, source: Path, says: str) -> None:
    assert f"Error: {source}: {says}" in refusal(script, source)


def test_plot_of_another_kind_is_refused_before_anything_is_printed(tmp_path: Path) -> None:
    assert "ends in .html" in refusal("gains", FIRST_STUDY, "--output", tmp_path / "plot.jpeg")


def test_frontier_of_the_first_study_and_what_a_point_costs_along_it(tmp_path: Path) -> None:
    text = answer("cost_accuracy", FIRST_STUDY, "--test-images", "166", "--output", tmp_path / "plot.html")
    assert "resnet50 fine_tuned+augmented" in page(tmp_path / "plot.html")
    at_833 = text.partition("_performance, 2280")[0]
    costs, _, winners = at_833.partition("Winners")
    assert line(costs, "resnet18 fine_tuned")[1:] == ["1 min", "0.7711 ±0.063", "F", "="]
    assert line(costs, "resnet50 plain")[1:] == ["1 min 10 s", "0.6145 ±0.073"]
    # 40 s more for 0.60 points, then 40 s more for 2.41; either may be chance
    assert line(winners, "resnet50 fine_tuned")[1:] == ["1 min 40 s", "+0.60", "-8.4", "+9.6", "1 min 07 s"]
    assert line(winners, "resnet50 fine_tuned+augmented")[1:] == ["2 min 20 s", "+2.41", "-6.4", "+11.2", "17 s"]


def test_all_sizes_are_compared_where_asked_for() -> None:
    text = answer("cost_accuracy", FIRST_STUDY, "--all-sizes")
    assert line(text.partition("Winners")[2], "resnet18 plain train_size=2280")[1:3] == ["1 min 20 s", "+6.88"]


def test_cost_counts_in_usd_where_every_cost_is_known_and_predictions_where_asked_for(tmp_path: Path) -> None:
    table = pd.DataFrame({"model": ["a", "b"], "test_accuracy": [0.5, 0.6], "train_seconds": [9, 8]})
    table["inference_images_per_second"] = [100, 10]
    table.to_csv(tmp_path / "seconds.csv", index=False)
    table.assign(standalone_cost_usd=[0.5, 2.5]).to_csv(tmp_path / "priced.csv", index=False)
    winners = answer("cost_accuracy", tmp_path / "priced.csv").partition("Winners")[2]
    assert line(winners, "b")[1:] == ["$2.50", "+10.00", "-", "-", "$0.20"]
    both = answer("cost_accuracy", tmp_path / "seconds.csv", "--predictions", "1000")
    assert [line(both.partition("Winners")[0], name)[1] for name in "ab"] == ["19 s", "1 min 48 s"]


def test_gains_of_the_first_study_at_each_size(tmp_path: Path) -> None:
    text = answer("gains", FIRST_STUDY, "--test-images", "166", "--output", tmp_path / "plot.html")
    assert "augmentation" in page(tmp_path / "plot.html")
    found = re.findall(r"train_size=(\d+), ([a-z- ]+): ([+-][\d.]+) points on average", text)
    assert [each for each in found if each[1] in {"fine-tuning", "augmentation"}] == [
        ("833", "fine-tuning", "+10.4"), ("2280", "fine-tuning", "+4.7"), ("19104", "fine-tuning", "+3.6"),
        ("833", "augmentation", "+1.1"), ("2280", "augmentation", "+0.6"), ("19104", "augmentation", "-0.7"),
    ]  # fmt: skip
    assert {each[1] for each in found} == {"fine-tuning", "augmentation", "depth", "more data"}
    pair = line(text.partition("train_size=2280")[0], "resnet50: plain -> fine_tuned")
    assert pair[1:] == ["0.6145", "0.7771", "+16.3", "9.7", "!", "+30 s", "1"]


def test_how_much_data_says_why_the_first_study_has_no_curve_and_what_a_curve_predicts(tmp_path: Path) -> None:
    text = " ".join(answer("how_much_data", FIRST_STUDY).split())
    assert "Not known: accuracy falls from 0.8772 with 2280 images to 0.8427 with 19104" in text
    table = pd.DataFrame({"train_size": [300, 600, 1200, 2400]})
    table["test_accuracy"] = 1 - 0.4 * (table["train_size"] / 300) ** -0.4
    table.assign(model="net").to_csv(tmp_path / "curve.csv", index=False)
    sizes = ("--at", "9600", "--at", "90000")
    text = answer("how_much_data", tmp_path / "curve.csv", *sizes, "--output", tmp_path / "plot.html")
    predicted = float(line(text, "9600")[1].split()[0])
    assert predicted == pytest.approx(1 - 0.4 * 32**-0.4, abs=0.02)
    assert "1 point more needs about" in text
    assert [line(text, size)[-1] for size in ("9600", "90000")] == ["yes", "no"]
    assert "Not trusted: more than 8 times the largest size, 2400 images." in text
    assert "measured" in page(tmp_path / "plot.html")


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
    costs, differences = (answer(script, small_run) for script in ("cost_accuracy", "gains"))
    for size in (40, 80, 160):
        before, after = (mean[size, f"linear-probe{end}"] for end in ("", "+augment"))
        at_size = costs.partition(f"digits, {size}: ")[2].partition("Winners")[0]
        assert line(at_size, "resnet8 random linear-probe")[2].split()[0] == before
        assert line(at_size, "resnet8 random linear-probe+augment")[2].split()[0] == after
        differing = differences.partition(f"train_size={size}, augmentation: ")[2].partition("train_size=")[0]
        pair = line(differing, "resnet8 random: linear-probe -> linear-probe+augment")
        assert (pair[1], pair[2], pair[-1]) == (before, after, "2")
        assert float(pair[4]) > 0
    text = answer("how_much_data", small_run, "--at", "320")
    assert len(re.findall(r"^ *320 +0\.\d{4} ±0\.\d+", text, re.MULTILINE)) == text.count("train size")


def test_learning_curves_of_a_run_show_epochs_of_chosen_trials_only_when_there_are_many(small_run: Path) -> None:
    everything = answer("learning_curves", small_run)
    assert "--trial WORDS" in everything
    assert "train loss" not in everything
    chosen = answer("learning_curves", small_run, "--trial", "linear-probe+augment train_size=80 seed=1")
    history = raybench.load_history(small_run).merge(raybench.load_results(small_run), on="trial_id")
    rows = history[
        (history["strategy"] == "linear-probe+augment") & (history["train_size"] == 80) & (history["seed"] == 1)
    ]
    assert len(rows) == EPOCHS
    assert all(f"{loss:.4f}" in chosen for loss in rows["train_loss_x"])
    assert f"best val accuracy {rows['val_accuracy_x'].max():.4f}" in chosen


def test_results_that_plain_ray_tune_wrote_are_read_and_said_how(tune_results: Path) -> None:
    text = answer("cost_accuracy", tune_results)
    assert line(text.partition("Winners")[0], "net fine-tune")[2] == "0.6000"
    assert "net broken" not in text
    assert "Left out, without a cost or not completed: 1." in text
    said = " ".join(text.split())
    for source in ("val_loss from loss", "val_accuracy from valid/accuracy (percent)", "model from config/arch"):
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
    assert "1 lines or files cannot be read" in refusal("gains", tmp_path)
