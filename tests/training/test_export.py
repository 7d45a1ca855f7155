"""A trial's best weights as files of their own, and what they say of images."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from raybench.checkpoint_paths import weights_path
from raybench.errors import DataError, InputError, ModelError, RunError, WeightsError
from raybench.records import (
    Allocation,
    ModelSpec,
    Status,
    Trial,
    TrialResult,
    Verdict,
)
from raybench.results import load_predictions, load_results, write_trial
from raybench.training.execute import run
from raybench.training.export import export_trial
from raybench.training.models import build_network
from raybench.training.predict import Classifier, load_classifier
from raybench.training.weight_files import WeightCard, read_card, read_tensors, write_weights
from tests import builders
from tests.builders import DIGITS, make_trial

PHASE = replace(builders.PHASE, learning_rate=0.01, epochs=4, patience=4)
CLASSES = ("four", "one", "zero")
IMAGES_PER_CLASS = {"train": 30, "val": 10, "test": 10}
MODEL_OF_OURS = """
from torch import nn

class Small(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(48, num_classes)
        self.scale = nn.Linear(48, 48)
    def forward(self, x):
        return self.head(self.scale(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)))

def small(*, num_classes=5):
    return Small(num_classes)
"""

MODELS_THAT_ONNX_LACKS = """
import torch
from torch import nn

class OtherWhenExported(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(3, num_classes)
    def forward(self, x):
        scores = self.fc(x.mean(dim=(2, 3)))
        return scores + 1 if torch.compiler.is_compiling() else scores

class CannotBeExported(OtherWhenExported):
    def forward(self, x):
        scores = self.fc(x.mean(dim=(2, 3)))
        return scores if float(scores.sum()) > 0 else 2 * scores

def other_when_exported(*, num_classes):
    return OtherWhenExported(num_classes)

def cannot_be_exported(*, num_classes):
    return CannotBeExported(num_classes)
"""


def write_images(folder: Path) -> None:
    """Handwritten digits as JPEG, larger than the model sees them, with other sizes and modes among them."""
    digits = load_digits()
    for label, name in ((4, "four"), (1, "one"), (0, "zero")):
        pixels = iter(digits.images[digits.target == label])
        for split, count in IMAGES_PER_CLASS.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                grey = Image.fromarray((next(pixels) * 15).astype(np.uint8)).resize((40 + index, 48))
                image = grey if index % 3 else grey.convert("RGB")
                image.save(folder / split / name / f"{index:02d}.jpg")


def trial_on(folder: Path, **changes: object) -> Trial:
    dataset = replace(DIGITS, name="written", source=f"imagefolder:{folder}")
    return replace(make_trial("0123456789ab", PHASE, dataset=dataset, train_size=90, seed=3), **changes)  # type: ignore[arg-type]


class Trained:
    """A run directory with one trial that was really trained, and its images."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        self.run_dir = folder / "run"
        write_images(self.images)
        self.trial = trial_on(self.images)
        self.result = run(
            self.trial,
            run_dir=self.run_dir,
            allocation=Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=1),
            on_epoch=lambda _: Verdict.GO_ON,
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return Trained(tmp_path_factory.mktemp("trained"))


def write_by_hand(run_dir: Path, trial: Trial, *, status: Status = Status.COMPLETED, error: str | None = None) -> None:
    """The row and, unless it failed, random weights of a trial."""
    result = TrialResult(
        trial_id=trial.trial_id,
        dataset=trial.dataset.name,
        train_size=trial.train_size,
        model=trial.model.name,
        weights=trial.weights,
        strategy=trial.strategy.name,
        augmentation="none",
        seed=trial.seed,
        status=status,
        error=error,
        val_accuracy=0.5,
    )
    write_trial(run_dir, result, [], None)
    if status is Status.FAILED:
        return
    size = trial.dataset.image_size
    network = build_network(trial.model, "random", num_classes=3, image_size=size, seed=trial.seed)
    card = WeightCard(model=trial.model.name, classes=CLASSES, image_size=size, mean=network.mean, std=network.std)
    path = weights_path(run_dir, trial.trial_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(path, network.module.state_dict(), card, head=network.head_name)


def test_exported_tensors_are_those_of_the_best_epoch(trained: Trained, tmp_path: Path) -> None:
    exported = export_trial(trained.run_dir, trained.trial, tmp_path / "new" / "digits.safetensors")
    kept = read_tensors(weights_path(trained.run_dir, trained.trial.trial_id))
    ours = read_tensors(exported.path)
    assert ours.keys() == kept.keys()
    assert all(torch.equal(ours[name], kept[name]) for name in kept)
    assert exported.file_bytes == exported.path.stat().st_size
    assert sorted(path.name for path in exported.path.parent.iterdir()) == ["digits.json", "digits.safetensors"]


def test_the_card_says_what_the_weights_are_and_which_images_they_take(trained: Trained, tmp_path: Path) -> None:
    exported = export_trial(trained.run_dir, trained.trial, tmp_path / "digits.safetensors")
    card = read_card(exported.path)
    assert (card.model, card.classes, card.image_size) == ("resnet8", CLASSES, 16)
    assert card.mean is not None
    assert card.pretrained_on == exported.pretrained_on
    assert card.pretrained_on == (
        "written, 90 images of 3 classes at 16 px, fine-tune from random weights, seed 3: "
        f"test accuracy {trained.result.test_accuracy:.4f}"
    )
    entries = json.loads(exported.card_path.read_text())
    assert entries["head"] == "fc"
    assert entries["test_accuracy"] == trained.result.test_accuracy
    assert "centred square" in entries["input"]["resize"]


def test_exported_weights_start_another_experiment(trained: Trained, tmp_path: Path) -> None:
    exported = export_trial(trained.run_dir, trained.trial, tmp_path / "digits.safetensors")
    network = build_network(trained.trial.model, str(exported.path), num_classes=7, image_size=16, seed=0)
    assert "pretrained on written, 90 images of 3 classes" in network.note
    assert torch.equal(network.module.state_dict()["conv1.weight"], read_tensors(exported.path)["conv1.weight"])


def test_predictions_of_test_images_are_those_that_the_run_recorded(trained: Trained) -> None:
    stored = load_predictions(trained.run_dir)
    paths = sorted(trained.images.glob("test/*/*.jpg"))
    predictions = load_classifier(trained.run_dir, trained.trial).predict(paths)
    assert len(predictions) == len(stored) == 30
    by_name = stored.set_index("image")
    for prediction in predictions:
        row = by_name.loc[next(name for name in by_name.index if prediction.path.as_posix().endswith(name))]
        assert prediction.class_name == CLASSES[row["predicted"]]
        assert prediction.probability == pytest.approx(max(row["probabilities"]), abs=1e-5)
        assert [each.name for each in prediction.top] == [CLASSES[k] for k in np.argsort(-row["probabilities"])]
    right = sum(prediction.class_name == prediction.path.parent.name for prediction in predictions)
    assert right / 30 == pytest.approx(load_results(trained.run_dir)["test_accuracy"].item())


def test_an_exported_file_predicts_without_its_run(trained: Trained, tmp_path: Path) -> None:
    exported = export_trial(trained.run_dir, trained.trial, tmp_path / "digits.safetensors")
    paths = sorted(trained.images.glob("test/*/*.jpg"))[:5]
    expected = load_classifier(trained.run_dir, trained.trial).predict(paths)
    assert Classifier.from_file(exported.path).predict(paths) == expected


def test_onnx_gives_the_scores_of_the_trial_for_any_number_of_images(trained: Trained, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    exported = export_trial(trained.run_dir, trained.trial, tmp_path / "digits.onnx")
    assert exported.largest_difference is not None
    assert exported.largest_difference < 1e-4
    assert read_card(exported.path).classes == CLASSES
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["digits.json", "digits.onnx"]
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    classifier = load_classifier(trained.run_dir, trained.trial)
    for count in (1, 2, 7):
        images = torch.rand(count, 3, 16, 16)
        (scores,) = session.run(["scores"], {"images": images.numpy()})
        assert scores == pytest.approx(classifier.network.module(images).detach().numpy(), abs=1e-4)


def test_onnx_takes_a_head_that_is_a_convolution(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    base = trial_on(tmp_path, model=ModelSpec(name="squeezenet1_1", head=None))
    trial = replace(base, dataset=replace(base.dataset, image_size=64))
    write_by_hand(tmp_path / "run", trial)
    exported = export_trial(tmp_path / "run", trial, tmp_path / "squeezenet.onnx")
    assert exported.pretrained_on.endswith("val accuracy 0.5000")
    assert exported.largest_difference is not None


@pytest.mark.parametrize(
    ("callable_name", "message"),
    [
        ("other_when_exported", r"differ by .* from torch's"),
        ("cannot_be_exported", r"cannot be exported to ONNX \("),
    ],
)
def test_onnx_that_is_not_the_same_network_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, callable_name: str, message: str
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "ours_for_onnx.py").write_text(MODELS_THAT_ONNX_LACKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    trial = trial_on(tmp_path, model=ModelSpec(name=f"ours_for_onnx:{callable_name}", head=None), weights="as-built")
    write_by_hand(tmp_path / "run", trial)
    with pytest.raises(ModelError, match=message):
        export_trial(tmp_path / "run", trial, tmp_path / "out" / "ours.onnx")
    assert not list((tmp_path / "out").iterdir())


def test_onnx_without_its_packages_says_what_to_install(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime, which is not installed; run pip install 'raybench\[onnx\]'"):
        export_trial(trained.run_dir, trained.trial, tmp_path / "digits.onnx")
    assert not list(tmp_path.iterdir())


def test_another_ending_is_refused_with_those_that_work(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"digits\.pth: give a file that ends with \.safetensors or \.onnx"):
        export_trial(trained.run_dir, trained.trial, tmp_path / "digits.pth")


def test_a_run_is_never_written_over(trained: Trained) -> None:
    path = weights_path(trained.run_dir, trained.trial.trial_id)
    before = path.read_bytes()
    with pytest.raises(InputError, match="own checkpoints"):
        export_trial(trained.run_dir, trained.trial, path)
    assert path.read_bytes() == before


def test_exporting_again_replaces_the_files(trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "digits.safetensors"
    output.write_text("an older file")
    export_trial(trained.run_dir, trained.trial, output)
    assert read_tensors(output)


def test_a_card_that_another_trials_file_needs_is_kept(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export_trial(trained.run_dir, trained.trial, tmp_path / "digits.safetensors")
    other = replace(trained.trial, trial_id="ba9876543210")
    write_by_hand(tmp_path / "run", other)
    with pytest.raises(InputError, match=r"digits\.json belongs to digits\.safetensors"):
        export_trial(tmp_path / "run", other, tmp_path / "digits.onnx")
    export_trial(trained.run_dir, trained.trial, tmp_path / "digits.onnx")


def test_a_place_that_cannot_be_written_to_is_named(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/digits\.safetensors: cannot be written"):
        export_trial(trained.run_dir, trained.trial, tmp_path / "file" / "digits.safetensors")


def test_a_failed_trial_has_no_weights_and_says_why(tmp_path: Path) -> None:
    trial = trial_on(tmp_path)
    write_by_hand(tmp_path / "run", trial, status=Status.FAILED, error="Traceback\nValueError: odd number")
    for attempt in (
        lambda: export_trial(tmp_path / "run", trial, tmp_path / "x.safetensors"),
        lambda: load_classifier(tmp_path / "run", trial),
    ):
        with pytest.raises(RunError, match=r"failed, so it has no weights: ValueError: odd number"):
            attempt()


def test_a_trial_that_has_not_ended_or_lost_its_weights_says_so(tmp_path: Path) -> None:
    trial = trial_on(tmp_path)
    with pytest.raises(RunError, match="has not ended"):
        load_classifier(tmp_path / "run", trial)
    write_by_hand(tmp_path / "run", trial)
    weights_path(tmp_path / "run", trial.trial_id).unlink()
    with pytest.raises(RunError, match="are missing"):
        load_classifier(tmp_path / "run", trial)


def test_an_unreadable_image_is_named(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("no image")
    classifier = load_classifier(trained.run_dir, trained.trial)
    good = next(trained.images.glob("test/*/*.jpg"))
    for name, reason in (("note.jpg", "not an image"), ("nowhere.jpg", "no such file")):
        with pytest.raises(DataError, match=rf"{name}: {reason}"):
            classifier.predict([good, tmp_path / name])


def test_no_images_give_no_predictions(trained: Trained) -> None:
    assert load_classifier(trained.run_dir, trained.trial).predict([]) == []


def test_a_card_that_lacks_what_a_network_needs_is_refused(trained: Trained, tmp_path: Path) -> None:
    exported = export_trial(trained.run_dir, trained.trial, tmp_path / "digits.safetensors")
    alone = tmp_path / "alone.safetensors"
    shutil.copy(exported.path, alone)
    with pytest.raises(WeightsError, match=r"alone\.json: lacks model, classes, image_size, mean, std"):
        Classifier.from_file(alone)
    entries = json.loads(exported.card_path.read_text())
    exported.card_path.write_text(json.dumps({**entries, "classes": ["a", "b"]}))
    with pytest.raises(WeightsError, match=r"is not the resnet8 for 2 classes of its card: .*fc\.weight"):
        Classifier.from_file(exported.path)


def test_a_file_does_not_choose_which_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours_for_export.py").write_text(MODEL_OF_OURS)
    monkeypatch.syspath_prepend(str(tmp_path))
    trial = trial_on(tmp_path, model=ModelSpec(name="ours_for_export:small", head="head"), weights="as-built")
    write_by_hand(tmp_path / "run", trial)
    exported = export_trial(tmp_path / "run", trial, tmp_path / "ours.safetensors")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    with pytest.raises(WeightsError, match="only run where you name it yourself"):
        Classifier.from_file(exported.path)
    (prediction,) = Classifier.from_file(exported.path, model="ours_for_export:small").predict([tmp_path / "red.png"])
    assert load_classifier(tmp_path / "run", trial).predict([tmp_path / "red.png"]) == [prediction]
