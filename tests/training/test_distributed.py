"""One trial over several processes: the same figures as one process, and what each takes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from raybench.records import Allocation, ModelSpec, Phase, Strategy, Trial, Verdict
from raybench.results import load_history, load_predictions, load_results
from raybench.training.augment import augment
from raybench.training.distributed import Ranks, synchronise_batchnorm
from raybench.training.execute import run
from raybench.training.models import build_network
from tests import builders
from tests.builders import SETTINGS, make_trial
from tests.training.ranks import train

PLAIN = "tests.training.ranks:plain"
PHASE = replace(builders.PHASE, learning_rate=0.02)  # so that twelve steps change something
HEAD = replace(PHASE, train="head")


def plain_trial(name: str, *phases: Phase, augmentation: str = "none", **changes: object) -> Trial:
    trial = make_trial(name, *phases, model=PLAIN, **changes)
    return replace(trial, strategy=Strategy(name=name, augmentation=augmentation, phases=trial.strategy.phases))


def rows_of(table: pd.DataFrame, trial_id: str) -> pd.DataFrame:
    return table[table["trial_id"] == trial_id]


TRIALS = [
    plain_trial("fine-tune", PHASE, train_size=101),
    # a last batch of 3 images, of which the second rank has none of its own
    plain_trial("small-last-batch", PHASE, train_size=99),
    plain_trial("augmented", PHASE, augmentation="default", train_size=101),
    plain_trial("trivial", PHASE, augmentation="trivialaugment", train_size=100),
    plain_trial(
        "weighted",
        replace(PHASE, optimizer="sgd", learning_rate=0.1),
        train_size=101,
        training=replace(SETTINGS, class_weights="balanced", label_smoothing=0.1),
    ),
    plain_trial("linear-probe", HEAD, train_size=101, first_phase_id="linear-probe"),
    plain_trial("probe-augmented", HEAD, augmentation="default", train_size=101),
    plain_trial("lp-ft", HEAD, PHASE, train_size=101, first_phase_id="linear-probe"),
]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same trials, trained by one process and by two."""
    folder = tmp_path_factory.mktemp("runs")
    alone = Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=1)
    for trial in TRIALS:
        run(trial, run_dir=folder / "1", allocation=alone, on_epoch=lambda _: Verdict.GO_ON)
    train(TRIALS, folder / "2", workers=2)
    return {1: folder / "1", 2: folder / "2"}


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.trial_id)
def test_two_workers_train_as_one_does_with_the_same_batches(runs: dict[int, Path], trial: Trial) -> None:
    histories = [rows_of(load_history(folder), trial.trial_id) for folder in runs.values()]
    columns = ["phase", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    one, two = (history[columns].to_numpy(float) for history in histories)
    assert len(one) == trial.epochs
    np.testing.assert_allclose(two, one, atol=TOLERANCE)
    rows = [load_results(folder).set_index("trial_id").loc[trial.trial_id] for folder in runs.values()]
    for column in ("val_loss", "val_accuracy", "test_loss", "test_accuracy", "test_macro_f1", "epochs_run"):
        assert rows[1][column] == pytest.approx(rows[0][column], abs=TOLERANCE), column


def test_each_test_image_is_predicted_once_and_in_order(runs: dict[int, Path]) -> None:
    one, two = (rows_of(load_predictions(folder), "fine-tune") for folder in runs.values())
    assert list(two["image"]) == list(one["image"])
    assert list(two["label"]) == list(one["label"])
    probabilities = [np.stack(list(each["probabilities"])) for each in (one, two)]
    np.testing.assert_allclose(probabilities[1], probabilities[0], atol=TOLERANCE)


def test_a_row_tells_how_many_workers_trained_it(runs: dict[int, Path]) -> None:
    for workers, folder in runs.items():
        assert set(load_results(folder)["workers"]) == {workers}


def test_a_first_phase_is_shared_among_trials_of_several_workers(runs: dict[int, Path]) -> None:
    history = load_history(runs[2]).query("phase == 1")
    probe, both = (rows_of(history, name) for name in ("linear-probe", "lp-ft"))
    assert list(both["epoch_seconds"]) == list(probe["epoch_seconds"])


def test_a_decision_to_stop_reaches_all_workers_and_batchnorm_goes_on_with_shared_statistics(tmp_path: Path) -> None:
    trial = make_trial("stopped", replace(PHASE, epochs=5, patience=5), train_size=99)
    train([trial], tmp_path, workers=2, stop_at=2)
    row = load_results(tmp_path).iloc[0]
    assert row["status"] == "stopped"
    assert row["epochs_run"] == 2
    assert row["test_accuracy"] >= 0


@given(images=st.integers(1, 300), count=st.integers(1, 9))
def test_every_image_of_a_batch_counts_once(images: int, count: int) -> None:
    parts = [Ranks(rank=rank, count=count).part(images) for rank in range(count)]
    taken = [image for part in parts if part.counts for image in range(part.start, part.stop)]
    assert taken == list(range(images))
    assert min(part.stop - part.start for part in parts) >= min(2, images)


@given(things=st.integers(0, 300), count=st.integers(1, 9))
def test_every_image_of_a_split_is_in_one_span(things: int, count: int) -> None:
    spans = [Ranks(rank=rank, count=count).span(things) for rank in range(count)]
    assert [thing for span in spans for thing in range(things)[span]] == list(range(things))
    longest = -(-things // count)
    assert all(span.stop - span.start <= longest for span in spans)


@pytest.mark.parametrize("policy", ["none", "flip", "default", "no-flip", "trivialaugment", "randaugment"])
def test_a_part_of_a_batch_is_augmented_as_it_is_among_the_others(policy: str) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8))
    whole = augment(images, policy, torch.Generator().manual_seed(1))
    for rank in range(3):
        part = Ranks(rank=rank, count=3).part(9)
        own = augment(images[part.start : part.stop], policy, torch.Generator().manual_seed(1), part=part)
        assert torch.equal(own, whole[part.start : part.stop])


@pytest.mark.parametrize("model", ["resnet8", "timm:resnet10t"])
def test_synchronised_batchnorm_has_the_same_tensors_and_predicts_the_same(model: str) -> None:
    spec = ModelSpec(name=model, head=None)
    module = build_network(spec, "random", num_classes=3, image_size=32, seed=0).module.eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, names = module(images), list(module.state_dict())
    synchronise_batchnorm(module, model)
    kinds = {type(part) for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}  # noqa: SLF001 - the base of all kinds
    assert kinds
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    assert list(module.state_dict()) == names
    assert torch.equal(module.eval()(images), before)
