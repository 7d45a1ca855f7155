"""What a trial leaves of its network, and that it comes back whole."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raybench.checkpoint_paths import weights_path
from raybench.errors import WeightsError
from raybench.records import Allocation, Trial, Verdict
from raybench.results import load_predictions, load_results
from raybench.training.backbone import backbone_tensors
from raybench.training.batches import Preparation, forward_all
from raybench.training.data import load_images
from raybench.training.execute import run
from raybench.training.export import export_trial
from raybench.training.models import build_network, weights_facts
from raybench.training.predict import Classifier, load_classifier
from raybench.training.saved import open_trial
from raybench.training.weight_files import read_card
from tests.builders import PHASE, make_trial

ALLOCATION = Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=1)
HEAD = replace(PHASE, train="head", learning_rate=0.01, epochs=2)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two probes of one backbone, one of another, and a fine-tuning."""
    folder = tmp_path_factory.mktemp("run")
    for trial in (probe("first"), probe("second", train_size=90), probe("other", seed=1), make_trial("whole", PHASE)):
        run(trial, run_dir=folder, allocation=ALLOCATION, on_epoch=lambda _: Verdict.GO_ON)
    return folder


def probe(trial_id: str, **changes: Any) -> Trial:  # noqa: ANN401 - any field
    return make_trial(trial_id, HEAD, **changes)


def test_probes_write_their_heads_and_share_the_file_of_their_backbone(run_dir: Path) -> None:
    cards = [read_card(weights_path(run_dir, name)) for name in ("first", "second", "other", "whole")]

    backbones = [card.backbone_file for card in cards]
    assert backbones[0] == backbones[1] != backbones[2] != backbones[3] == None  # noqa: E711 (a chain)
    assert len(list((run_dir / "checkpoints").glob("backbone-*"))) == 2
    sizes = {name: weights_path(run_dir, name).stat().st_size for name in ("first", "whole")}
    assert sizes["first"] < sizes["whole"] / 20
    assert (load_results(run_dir)["model_bytes"] > 300_000).all()


@pytest.mark.parametrize("trial", [probe("first"), probe("other", seed=1), make_trial("whole", PHASE)])
def test_the_network_comes_back_with_the_probabilities_that_were_recorded(run_dir: Path, trial: Trial) -> None:
    network = open_trial(run_dir, trial).network

    images = load_images(trial.dataset).test
    assert images is not None
    preparation = Preparation(mean=network.mean, std=network.std, device=torch.device("cpu"), policy="none", seed=0)
    found = forward_all(network.module, images, preparation).softmax(dim=1)
    recorded = load_predictions(run_dir, only=[trial.trial_id])["probabilities"]
    torch.testing.assert_close(found, torch.from_numpy(np.stack(list(recorded))), rtol=0, atol=1e-5)


def test_an_exported_probe_is_one_file_with_everything(run_dir: Path, tmp_path: Path) -> None:
    exported = export_trial(run_dir, probe("first"), tmp_path / "net.safetensors")

    assert read_card(exported.path).backbone_file is None
    assert exported.file_bytes > 300_000
    of_file, of_run = Classifier.from_file(exported.path), load_classifier(run_dir, probe("first"))
    tensors = of_run.network.module.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in of_file.network.module.state_dict().items())


def test_a_missing_backbone_is_named(run_dir: Path, tmp_path: Path) -> None:
    path = weights_path(run_dir, "first")
    alone = tmp_path / path.name
    alone.write_bytes(path.read_bytes())
    alone.with_suffix(".json").write_bytes(path.with_suffix(".json").read_bytes())

    with pytest.raises(WeightsError, match=r"hold a head alone, and backbone-\w+.safetensors .*not beside them"):
        Classifier.from_file(alone)


def test_a_probe_can_be_the_initial_weights_of_another_experiment(run_dir: Path) -> None:
    spec = probe("first").model
    first, other = (str(weights_path(run_dir, name)) for name in ("first", "other"))

    network = build_network(spec, first, num_classes=7, image_size=16, seed=5)

    expected = build_network(spec, "random", num_classes=10, image_size=16, seed=0)
    tensors = backbone_tensors(network)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in backbone_tensors(expected).items())
    digests = [weights_facts(spec, file, num_classes=7, image_size=16).digest for file in (first, other)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/passwd", 3, ""])
def test_a_card_names_no_file_elsewhere(tmp_path: Path, name: object) -> None:
    (tmp_path / "net.json").write_text(json.dumps({"backbone_file": name}))

    with pytest.raises(WeightsError, match="is not the name of a file beside it"):
        read_card(tmp_path / "net.safetensors")
