"""What the first screen says on whether to trust it, and what to do next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from raybench.records import Status, Trial
from raybench.report.page_answer import main_group
from raybench.report.page_material import load_material
from raybench.report.page_next import next_step
from raybench.report.page_parts import Mood, Point
from raybench.report.page_trust import trust_points
from tests.made_up_run import MadeUp, accuracy_of

STUDY = Path(__file__).parent.parent / "data" / "resnet_cost_performance.csv"
WHOLE = [{"name": "shapes", "source": "torchvision:Shapes", "image_size": 32}]


def points_of(path: Path) -> dict[str, Point]:
    material = load_material([path], epochs=False)
    return {point.label: point for point in trust_points(material, main_group(material.ranking))}


def next_of(path: Path) -> str:
    material = load_material([path], epochs=False)
    step = next_step(material, main_group(material.ranking))
    return "" if step is None else step.text


def test_a_sound_run_is_good_but_for_its_untuned_learning_rates(made_up: Path) -> None:
    moods = {label: point.mood for label, point in points_of(made_up).items()}
    assert moods["Learning rates"] is Mood.CARE
    assert moods["Seeds"] is moods["Duplicates"] is moods["Stopped, failed"] is Mood.GOOD


@pytest.mark.parametrize(
    ("datasets", "says"),
    [
        (None, "all 12 trials of this size ran"),
        (WHOLE, "all 12 trials ran"),
        ([*WHOLE, {**WHOLE[0], "name": "discs"}], "all 12 trials of this dataset ran"),
        (
            [{**WHOLE[0], "train_sizes": [50, "all"]}, {**WHOLE[0], "name": "discs"}],
            "all 12 trials of this dataset and size ran",
        ),
    ],
    ids=["sizes", "one", "datasets", "both"],
)
def test_which_trials_ran_to_their_end_is_said_where_there_are_others(
    datasets: list[dict[str, Any]] | None, says: str, tmp_path: Path
) -> None:
    experiment = {} if datasets is None else {"datasets": datasets}
    assert says in points_of(MadeUp(experiment=experiment).write(tmp_path / "run"))["Stopped, failed"].text


def test_at_all_images_the_seed_does_not_vary_them(made_up: Path) -> None:
    assert "not the images" in points_of(made_up)["Seeds"].text


def test_how_a_table_was_read_is_one_point(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("net,test_accuracy,top1\nr18,84,1\nr50,86,2\n")
    material = load_material([table], epochs=False)
    read = [each.text for each in trust_points(material, material.ranking) if each.label == "How it was read"]
    assert read == [
        "Read so: model from net, test_accuracy in percent. Not read: top1. Otherwise: --column KEY=NAME.",
    ]
    table.write_text("arch,epoch,val_loss,val_accuracy\nr18,1,0.5,84\nr18,2,0.4,86\n")
    material = load_material([table], epochs=False)
    (point,) = [each for each in trust_points(material, material.ranking) if each.label == "How it was read"]
    assert "model from arch" in point.text
    assert "From epochs: " in point.text


@pytest.mark.parametrize(("seeds", "says"), [([0], "One seed"), ([0, 1], "few")])
def test_few_seeds_are_said(seeds: list[int], says: str, tmp_path: Path) -> None:
    point = points_of(MadeUp(experiment={"seeds": seeds, "datasets": WHOLE}).write(tmp_path / "run"))["Seeds"]
    assert says in point.text
    assert point.mood is Mood.CARE


@pytest.mark.parametrize(
    ("made", "label"),
    [
        (MadeUp(warnings=["images of test that are also in train: 3, as a = b"]), "Duplicates"),
        (MadeUp(warnings=["classes under 10 training images: disc (3)"]), "Data"),
        (MadeUp(experiment={"datasets": WHOLE}, notes={"random": "x, pretrained on shapes, 9 images"}), "Pretraining"),
        (MadeUp(changes=lambda trial: {"status": Status.STOPPED} if trial.seed == 0 else {}), "Stopped, failed"),
        (MadeUp(changes=lambda trial: {"accelerator": f"gpu{trial.seed}"}), "Devices"),
    ],
    ids=["duplicates", "few images", "pretrained on the same", "stopped", "devices"],
)
def test_what_would_mislead_stands_out(made: MadeUp, label: str, tmp_path: Path) -> None:
    assert points_of(made.write(tmp_path / "run"))[label].mood is Mood.CARE


def test_a_table_says_what_it_does_not_tell() -> None:
    points = points_of(STUDY)
    assert "unknown" in points["Test images"].text
    assert "not in this table" in points["Duplicates"].text
    assert "not in this table" in points["Learning rates"].text


def unfinished(trial: Trial) -> Mapping[str, Any] | None:
    return None if trial.seed == 2 else {}


def failed(trial: Trial) -> Mapping[str, Any]:
    return {"status": Status.FAILED} if trial.seed == 2 else {}


def close(trial: Trial) -> Mapping[str, Any]:
    return {"test_accuracy": accuracy_of(trial) + 0.001 * trial.seed}


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (MadeUp(changes=unfinished), "Finish the run: 12 of 36 trials are left"),
        (MadeUp(changes=failed), "12 of 36 trials failed"),
        (MadeUp(experiment={"seeds": [0]}), "Train every configuration with 3 seeds"),
        (MadeUp(experiment={"models": ["resnet8"], "strategies": ["fine-tune"]}), ""),
    ],
    ids=["unfinished", "failed", "one seed", "one configuration"],
)
def test_next_step_is_what_is_missing_most(made: MadeUp, says: str, tmp_path: Path) -> None:
    assert next_of(made.write(tmp_path / "run")).startswith(says)


def test_next_step_has_a_price(tmp_path: Path) -> None:
    text = next_of(MadeUp(experiment={"seeds": [0]}).write(tmp_path / "run"))
    assert "24 more trials, about" in text
    assert "$" in text


def test_more_images_are_the_next_step_where_there_are_more(tmp_path: Path) -> None:
    part = [{**WHOLE[0], "train_sizes": [200]}]
    made = MadeUp(experiment={"models": ["resnet8"], "strategies": ["fine-tune"], "datasets": part})
    assert next_of(made.write(tmp_path / "run")).startswith("More data: 800 training images are there")
