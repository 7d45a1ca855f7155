"""Images in both layouts that files come in, by the command line with real Ray: rows, recall, cost and the pick."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import raybench
from tests.commands import CORES, Done, run
from tests.photos import write_photos

pytestmark = pytest.mark.minutes

PRICE = 0.72
"""US dollars an hour for this machine."""

PHOTOS = f"""
name: photos
datasets:
  - {{name: folders, source: "imagefolder:images", image_size: 64}}
  - {{name: lists, source: "filelist:photos", image_size: 64}}
models: [resnet18, resnet50, alexnet]
strategies: [linear-probe]
training: {{epochs: 2, batch_size: 8}}
resources: {{measure: false}}
price_per_hour_usd: {{local: {PRICE}}}
"""

METRICS = ["val_loss", "val_accuracy", "test_loss", "test_accuracy", "best_epoch", "epochs_run", "status"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with images and an experiment on them."""
    folder = tmp_path_factory.mktemp("work")
    write_photos(folder)
    (folder / "photos.yaml").write_text(PHOTOS)
    yield folder
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()  # half a gigabyte, and pytest keeps the folders of three sessions


@pytest.fixture(scope="module")
def photos(folder: Path) -> Done:
    return run("photos.yaml", folder=folder)


def rows_of(run_dir: Path) -> pd.DataFrame:
    return raybench.load_results(run_dir).set_index("trial_id").sort_index()


def test_photos_in_both_layouts_end_with_a_table_that_names_the_pick(photos: Done) -> None:
    assert photos.status == 0, photos.err
    for model in ("resnet18", "resnet50", "alexnet"):
        assert model in photos.out
    text = " ".join(photos.out.split())
    assert re.search(r"Pick for folders, 32 training images: (resnet18|resnet50|alexnet) linear-probe", text), (
        photos.out
    )
    assert "Results: runs/photos" in text


def test_rows_hold_the_recall_of_the_minority_class(photos: Done, folder: Path) -> None:
    assert photos.status == 0
    rows = rows_of(folder / "runs/photos")
    assert len(rows) == 6
    assert set(rows["status"]) == {"completed"}
    predictions = raybench.load_predictions(folder / "runs/photos")
    balanced = rows["test_balanced_accuracy"]
    for trial_id, recall in zip(rows.index, rows["test_per_class_recall"], strict=True):
        own = predictions[predictions["trial_id"] == trial_id]
        hit = (own["label"] == own["predicted"]).groupby(own["label"]).mean()
        assert list(recall) == pytest.approx(list(hit))
        assert len(recall) == 3
        assert balanced[trial_id] == pytest.approx(sum(recall) / 3)


def test_one_set_of_files_gives_the_same_metrics_in_either_layout(photos: Done, folder: Path) -> None:
    assert photos.status == 0
    rows = rows_of(folder / "runs/photos").set_index("model").sort_index()
    folders, lists = (rows.loc[rows["dataset"] == name, METRICS] for name in ("folders", "lists"))
    pd.testing.assert_frame_equal(folders, lists, check_exact=True)


def test_cost_is_time_by_share_by_price(photos: Done, folder: Path) -> None:
    rows = rows_of(folder / "runs/photos")
    assert set(rows["cpu_share"]) == {1 / CORES}
    assert list(rows["standalone_cost_usd"]) == pytest.approx(list(rows["train_seconds"] / 3600 * PRICE / CORES))
    assert "cost $" in photos.out
