"""What `plan`, `models`, `show` and `predict` print."""

import io
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch
from rich.console import Console, RenderableType

from raybench.checkpoint_paths import state_path
from raybench.experiment import parse_experiment
from raybench.plan import Plan, make_plan
from raybench.records import DatasetFacts, Facts, ResourceRequest, Status, Trial, TrialResult, WeightsFacts
from raybench.report.views import models_table, plan_view, predictions_table, trials_table
from raybench.results import RESULTS_SCHEMA, write_trial
from raybench.runs import open_run
from raybench.training.loop import STATE_VERSION, Progress
from raybench.training.measure import ModelRow, Speed
from raybench.training.models import ModelFacts
from raybench.training.predict import ClassProbability, Prediction
from raybench.trials import first_row
from tests.commands import raybench
from tests.made_up_run import EPOCHS, MadeUp

NOTE = "48 of 48 backbone tensors from resnet8.safetensors, pretrained on fashion-mnist"
SPEED = Speed(
    training_images_per_second=15.54,
    inference_images_per_second=240.8,
    inference_latency_seconds=0.02742,
    training_batch_size=32,
    inference_batch_size=32,
    threads=2,
    accelerator="cpu",
)
RESNET18 = ModelFacts(
    model="resnet18", depth=18, parameters=11_689_512, trainable_parameters=11_689_512, model_bytes=46_796_608
)


def shown(renderable: RenderableType, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def words(renderable: RenderableType, width: int = 80) -> str:
    """Everything that is shown, on one line."""
    return " ".join(shown(renderable, width).split())


def facts_with(**changes: object) -> Facts:
    dataset = DatasetFacts(
        name="flowers",
        fingerprint="f",
        classes=("daisy", "rose"),
        train_images=300,
        val_images=40,
        test_images=300,
        train_class_counts=(290, 10),
    )
    return Facts(
        datasets={"flowers": replace(dataset, **changes)},  # type: ignore[arg-type]
        weights={
            "resnet8 random": WeightsFacts(model="resnet8", weights="random", digest="random"),
            "resnet8 packaged": WeightsFacts(model="resnet8", weights="packaged", digest="d", note=NOTE),
        },
    )


def plan_of(facts: Facts, **keys: object) -> Plan:
    experiment = parse_experiment(
        {
            "name": "which-flower",
            "datasets": [{"name": "flowers", "source": "digits", "image_size": 16, "train_sizes": [100, "all"]}],
            "models": ["resnet8"],
            "weights": ["random", "packaged"],
            "strategies": ["linear-probe", "fine-tune"],
            "seeds": [0, 1, 2],
            "training": {"epochs": 10},
            **keys,
        },
        "which-flower.yaml",
    )
    return make_plan(experiment, facts, Path("nowhere"))


def results_of(*rows: dict[str, object]) -> pd.DataFrame:
    usual = TrialResult(
        trial_id="0123456789ab",
        dataset="flowers",
        train_size=100,
        model="resnet8",
        weights="packaged",
        strategy="linear-probe+augment",
        augmentation="flip",
        seed=0,
        status=Status.COMPLETED,
        epochs_run=12,
        val_accuracy=0.91,
        test_accuracy=0.8765,
        train_seconds=125.0,
    )
    records = [asdict(replace(usual, **row)) for row in rows]  # type: ignore[arg-type]
    frame: pd.DataFrame = pa.Table.from_pylist(records, schema=RESULTS_SCHEMA).to_pandas()
    return frame


def test_a_plan_says_what_the_run_may_spend() -> None:
    facts = facts_with()
    assert "budget" not in words(plan_view(plan_of(facts), facts))
    text = words(plan_view(plan_of(facts, budget={"usd": 5, "hours": 2}), facts))
    assert "budget at most $5 ($0.00 spent) and 2 h (0.0 s spent)" in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_plan_says_what_would_run_on_what(width: int) -> None:
    facts = facts_with()
    text = words(plan_view(plan_of(facts), facts), width)
    for said in (
        "Plan of which-flower",
        "24: 8 configurations with 3 seeds (0, 1, 2)",
        "nothing yet",
        "at most 240 epochs",
        "300 train · 40 val · 300 test, at 16 px",
        "100, 300",
        "2; training images of daisy: 290, rose: 10",
        "accuracies that differ by 7.9 percentage points or more (near 90 %, with 300 test images)",
        f"resnet8 packaged {NOTE}",
        "drawn anew for each seed: resnet8",
    ):
        assert said in text
    assert "…" not in text


def test_a_plan_counts_what_is_done_and_how_failed_trials_are_trained_again() -> None:
    facts = facts_with()
    plan = replace(plan_of(facts), done={Status.COMPLETED: 4, Status.STOPPED: 2, Status.FAILED: 1}, begun=3)
    text = words(plan_view(plan, facts))
    assert "4 completed, 2 stopped and 1 failed; 17 to go: 3 begun and 14 not begun" in text
    assert "1 failed; 17 to go (" in words(plan_view(replace(plan, begun=0), facts))
    assert "--retry-failed" in text
    assert "retry" not in words(plan_view(replace(plan, done={Status.COMPLETED: 24}, begun=0), facts))


def leave_state(run_dir: Path, trial: Trial, epochs: int, *, version: int = STATE_VERSION) -> None:
    """Leave the checkpoint of a trial after some epochs, as far as a plan looks at it."""
    path = state_path(run_dir, trial.trial_id)
    path.parent.mkdir(exist_ok=True)
    torch.save({"version": version, "progress": asdict(Progress(epoch=epochs))}, path)


def test_trials_of_several_machines_say_on_which_they_ran() -> None:
    one: dict[str, object] = {"trial_id": "a" * 12, "node": "host-one"}
    two: dict[str, object] = {"trial_id": "b" * 12, "node": "[b]host-two"}
    alone = shown(trials_table(results_of(one)), 100)
    assert "host-one" not in alone, "of one machine nobody needs to be told"
    lines = shown(trials_table(results_of(one, two)), 100).splitlines()
    for trial_id, node in ((one["trial_id"], one["node"]), (two["trial_id"], two["node"])):
        assert next(line for line in lines if str(trial_id) in line).rstrip().endswith(str(node))


def test_a_plan_tells_begun_trials_from_others_and_leaves_out_the_epochs_that_they_have(tmp_path: Path) -> None:
    run = open_run(MadeUp(changes=lambda _: None).write(tmp_path / "run"))
    paused, killed, damaged, of_an_older_raybench, gone, *others = run.trials
    for trial in (paused, gone):
        write_trial(run.run_dir, replace(first_row(trial, Status.UNFINISHED), epochs_run=2), [], None)
    leave_state(run.run_dir, paused, 2)
    leave_state(run.run_dir, killed, 1)
    leave_state(run.run_dir, of_an_older_raybench, 1, version=STATE_VERSION - 1)
    state_path(run.run_dir, damaged.trial_id).write_bytes(b"half writ")
    write_trial(run.run_dir, first_row(others[0], Status.COMPLETED), [], None)

    plan = make_plan(run.experiment, run.facts, run.run_dir)

    assert (plan.done, plan.begun) == ({Status.COMPLETED: 1}, 5)
    assert plan.most_epochs == EPOCHS * (len(run.trials) - 1) - 2 - 1
    text = words(plan_view(plan, run.facts))
    assert f"1 completed; {len(run.trials) - 1} to go: 5 begun and {len(run.trials) - 6} not begun" in text
    assert f"at most {plan.most_epochs} epochs" in text


def test_a_plan_of_a_run_of_which_nothing_has_ended_says_what_has_begun(tmp_path: Path) -> None:
    run = open_run(MadeUp(changes=lambda _: None).write(tmp_path / "run"))
    leave_state(run.run_dir, run.trials[0], 2)
    text = words(plan_view(make_plan(run.experiment, run.facts, run.run_dir), run.facts))
    assert f"none has ended; {len(run.trials)} to go: 1 begun and {len(run.trials) - 1} not begun" in text


@pytest.mark.parametrize(
    ("gpu", "cpu", "said"),
    [
        (None, 1.0, "1 CPU core; where there are GPUs, as much of one as pays"),
        (0.0, None, "as many CPU cores as pay (measured before the first trial) and no GPU"),
        (0.0, 2.0, "2 CPU cores and no GPU"),
        (0.25, 0.5, "0.5 CPU cores and 0.25 of a GPU"),
        (1.0, 1.0, "1 CPU core and 1 GPU"),
        (2.0, 4.0, "4 CPU cores and 2 GPUs"),
    ],
)
def test_a_plan_says_what_each_trial_asks_for(gpu: float | None, cpu: float | None, said: str) -> None:
    facts = facts_with()
    plan = replace(plan_of(facts), request=ResourceRequest(gpu=gpu, cpu=cpu))
    assert f"each asks for {said} Dataset" in words(plan_view(plan, facts))


def test_a_plan_says_who_may_stop_whom() -> None:
    facts = facts_with()
    alone = words(plan_view(plan_of(facts, scheduler="none"), facts))
    assert "without a better val loss (patience); no trial because of another" in alone
    with_asha = plan_of(facts, scheduler={"asha": {"grace_period": 2}})
    assert "within 6 groups, trials that fall behind the others (ASHA)" in words(plan_view(with_asha, facts))


def test_a_plan_says_that_asha_cannot_act_before_its_grace_period_is_over() -> None:
    facts = facts_with()
    late = plan_of(facts, scheduler={"asha": {"grace_period": 1000}})
    assert "ASHA never: its grace period of 1000 is no shorter than the trials" in words(plan_view(late, facts))


def test_a_plan_warns_of_what_would_mislead() -> None:
    facts = facts_with(
        test_images=None,
        warnings=("class 'rose' has 10 images",),
        skipped_images=("a.jpg", "b.jpg", "c.jpg", "d.jpg"),
    )
    text = words(plan_view(plan_of(facts), facts))
    assert "no test split: configurations are ranked by val accuracy" in text
    assert "note class 'rose' has 10 images" in text
    assert "left out 4 unreadable images: a.jpg, b.jpg, c.jpg and 1 more" in text


def test_many_classes_are_summed_up() -> None:
    classes = tuple(f"kind {index}" for index in range(20))
    facts = facts_with(classes=classes, train_class_counts=tuple(range(5, 25)))
    text = words(plan_view(plan_of(facts), facts))
    assert "20; 5 (kind 0) to 24 (kind 19), median 14.5 training images" in text


def test_a_test_split_too_small_for_any_gap_says_so() -> None:
    facts = facts_with(test_images=1)
    plan = plan_of(facts)
    plan = replace(plan, datasets=(replace(plan.datasets[0], detectable_gap=math.nan),))
    assert "nothing: 1 test image cannot tell two accuracies apart" in words(plan_view(plan, facts))


def test_models_are_shown_with_their_size_and_measured_speed() -> None:
    row = ModelRow(facts=RESNET18, image_size=224, speed=SPEED)
    header, *_ = [line for line in shown(models_table([row], measured=True), 120).splitlines() if "model" in line]
    assert header.split() == (
        [
            "model",
            "px",
            "depth",
            "parameters",
            "size",
            "MB",
            "training",
            "images/s",
            "inference",
            "images/s",
            "latency",
            "ms",
        ]
    )
    text = words(models_table([row], measured=True), 120)
    assert "resnet18 224 18 11.7M 46.8 15.5 241 27.4 Measured on cpu with 2 CPU threads" in text
    unmeasured = words(models_table([replace(row, speed=None)], measured=False))
    assert unmeasured == "model px depth parameters size MB resnet18 224 18 11.7M 46.8"


def test_no_column_of_models_is_cut_at_80_columns() -> None:
    row = ModelRow(facts=RESNET18, image_size=224, speed=SPEED)
    assert "…" not in shown(models_table([row], measured=True), 80)


def test_unknown_speeds_and_smaller_batches_are_explained() -> None:
    slow = replace(SPEED, training_batch_size=4)
    large = replace(SPEED, training_images_per_second=None, training_batch_size=2)
    rows = [
        ModelRow(facts=RESNET18, image_size=224, speed=SPEED),
        ModelRow(facts=replace(RESNET18, model="vgg16"), image_size=224, speed=slow),
        ModelRow(facts=replace(RESNET18, model="vit_h_14"), image_size=224, speed=large),
    ]
    text = words(models_table(rows, measured=True))
    assert "vit_h_14 224 18 11.7M 46.8 - 241" in text
    assert "do not fit into the free memory" in text
    assert text.endswith("so that measuring ends soon: vgg16 4.")


@pytest.mark.parametrize(
    ("parameters", "model_bytes", "said"),
    [(75_290, 304_000, "75.3k 0.3"), (632_045_800, 2_528_183_200, "632.0M 2528.2"), (31, 124, "31 0.00012")],
)
def test_sizes_keep_digits_that_say_something(parameters: int, model_bytes: int, said: str) -> None:
    facts = replace(RESNET18, parameters=parameters, model_bytes=model_bytes)
    assert said in words(models_table([ModelRow(facts=facts, image_size=32, speed=None)], measured=False))


def test_trials_are_listed_by_dataset_and_size_with_errors_below() -> None:
    results = results_of(
        {},
        {"trial_id": "b" * 12, "status": Status.FAILED, "error": "Traceback\n  File x\nValueError: odd\n",
         "val_accuracy": None, "test_accuracy": None, "epochs_run": None, "train_seconds": None},
        {"trial_id": "c" * 12, "train_size": 300, "status": Status.STOPPED},
    )  # fmt: skip
    text = shown(trials_table(results), 100)
    lines = text.splitlines()
    assert lines[0].strip() == "flowers · 100 training images"
    row = "0123456789ab resnet8 packaged linear-probe+augment 0 completed 0.9100 0.8765 12 2:05"
    assert " ".join(lines[2].split()) == row
    assert lines[3].split()[-5:] == ["failed", "-", "-", "-", "-"]
    assert f"{'b' * 12} failed: ValueError: odd" in text
    assert text.index("flowers · 300 training images") > text.index("bbbbbbbbbbbb")
    assert "Traceback" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_trials_keep_their_ids_and_numbers_whole(width: int) -> None:
    text = shown(
        trials_table(results_of({"model": "package.module:long_callable_name", "status": Status.UNFINISHED})), width
    )
    for whole in ("0123456789ab", "unfinished", "0.9100", "0.8765", "2:05"):
        assert whole in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_a_trial_that_never_began_is_told_from_an_unfinished_one() -> None:
    nothing = {"status": Status.UNFINISHED, "val_accuracy": None, "test_accuracy": None, "epochs_run": None}
    killed, never = "b" * 12, "c" * 12
    results = results_of({"status": Status.UNFINISHED}, {"trial_id": killed, **nothing}, {"trial_id": never, **nothing})
    text = shown(trials_table(results, begun={killed}), 100)
    said = {line.split()[0]: "not begun" in line for line in text.splitlines() if " linear-probe+augment " in line}
    assert said == {"0123456789ab": False, killed: False, never: True}
    assert text.count("unfinished") == 2


def test_show_says_which_trials_have_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(MadeUp(changes=lambda _: None).write(tmp_path / "run"))
    leave_state(run.run_dir, run.trials[0], 2)
    assert raybench("show", run.run_dir) == 0
    out = capsys.readouterr().out
    assert out.count("not begun") == len(run.trials) - 1
    (line,) = [line for line in out.splitlines() if " unfinished " in line]
    assert line.split()[0] == run.trials[0].trial_id


def test_a_run_without_trials_says_so() -> None:
    assert words(trials_table(results_of())) == "No trials."


def test_predictions_name_class_probability_and_what_comes_next() -> None:
    prediction = Prediction(
        path=Path("images/one.jpg"),
        class_name="rose",
        probability=0.93,
        top=(
            ClassProbability(name="rose", probability=0.93),
            ClassProbability(name="daisy", probability=0.07),
        ),
    )
    assert "images/one.jpg rose 0.930 daisy 0.070" in words(predictions_table([prediction]))


def test_names_are_never_taken_for_markup_or_control_sequences() -> None:
    evil = "[red]x[/red]\x1b[31m"
    facts = facts_with(classes=(evil, "rose"), warnings=(evil,), skipped_images=(evil,))
    weights = {"m w": WeightsFacts(model=evil, weights="packaged", digest="d", note=evil)}
    top = (ClassProbability(name=evil, probability=0.6), ClassProbability(name=evil, probability=0.4))
    row = ModelRow(facts=replace(RESNET18, model=evil), image_size=8, speed=None)
    failed = results_of({"dataset": evil, "model": evil, "status": Status.FAILED, "error": evil})
    prediction = Prediction(path=Path(evil), class_name=evil, probability=0.6, top=top)
    views = {
        "plan": (plan_view(plan_of(facts), replace(facts, weights=weights)), 5),
        "models": (models_table([row], measured=False), 1),
        "trials": (trials_table(failed), 3),
        "predictions": (predictions_table([prediction]), 3),
    }
    for name, (view, times) in views.items():
        text = shown(view, 200)
        assert text.count("[red]x[/red]?[31m") == times, name
        assert "\x1b" not in text


def test_showing_a_run_does_not_load_torch() -> None:
    code = "import sys, raybench.report.views; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
