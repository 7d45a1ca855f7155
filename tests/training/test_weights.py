"""Weights from everywhere: what is loaded, what is refused, and what the message says."""

import urllib.request
from collections import OrderedDict
from itertools import combinations
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor

from raybench.errors import WeightsError
from raybench.records import ModelSpec
from raybench.training.backbone import head_tensors
from raybench.training.models import build_network, weights_facts
from raybench.training.network import Network
from raybench.training.weight_files import WeightCard, read_card, write_weights
from raybench.training.weights import PACKAGED, resolve_weights

MODULE = """
import torch
from torch import nn
from torchvision.models import VisionTransformer

def fixed():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 10))
    for parameter in model.parameters():
        nn.init.constant_(parameter, VALUE)
    return model

def seeded():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 10))

def transformer():
    return VisionTransformer(image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
"""


def spec(name: str) -> ModelSpec:
    return ModelSpec(name=name, head=None)


def build(name: str, weights: str, *, image_size: int = 32, seed: int = 0) -> Network:
    return build_network(spec(name), weights, num_classes=7, image_size=image_size, seed=seed)


def facts_digest(name: str, weights: str, image_size: int = 32) -> str:
    return weights_facts(spec(name), weights, num_classes=7, image_size=image_size).digest


def state_of(name: str, *, seed: int = 5) -> "OrderedDict[str, Tensor]":
    return OrderedDict(build(name, "random", seed=seed).module.state_dict())


def backbone(tensors: "dict[str, Tensor] | OrderedDict[str, Tensor]", head: str = "fc") -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(head + ".")}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub, and no way out to the network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    return checkpoints


@pytest.fixture
def own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of an importable module of this test alone."""
    name = f"own_weights_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODULE.replace("VALUE", "0.5"))
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet", "shufflenet_v2_x0_5", "regnet_y_400mf"])
def test_every_tensor_but_the_heads_is_the_files(tmp_path: Path, name: str) -> None:
    saved = state_of(name)
    torch.save(saved, tmp_path / "weights.pth")

    network = build(name, str(tmp_path / "weights.pth"))

    loaded, head = network.module.state_dict(), head_tensors(network)
    assert same({**saved, **head}, loaded)
    assert not any(torch.equal(saved[part], tensor) for part, tensor in head.items())
    assert all(parameter.requires_grad for parameter in network.module.parameters())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_file_gives_the_backbone_and_the_head_stays_fresh(tmp_path: Path, suffix: str) -> None:
    saved = state_of("resnet8")
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(saved, path)
    else:
        torch.save(saved, path)

    network = build("resnet8", str(path))

    loaded = network.module.state_dict()
    assert same(backbone(loaded), backbone(saved))
    assert not torch.equal(loaded["fc.weight"], saved["fc.weight"])
    assert network.note == f"35 of 35 backbone tensors from {path.name}, 2 other tensors left out; fresh head"


def head_of(weights: str | Path, seed: int) -> Tensor:
    return build("resnet8", str(weights), seed=seed).module.get_parameter("fc.weight").detach()


def test_head_is_that_of_the_seed_and_the_weights(tmp_path: Path) -> None:
    one, other = tmp_path / "one.pth", tmp_path / "other.pth"
    torch.save(state_of("resnet8", seed=5), one)
    torch.save(state_of("resnet8", seed=6), other)
    heads = [head_of(weights, seed) for weights in (one, other) for seed in (0, 1)]
    assert torch.equal(heads[0], head_of(one, 0))
    assert not any(torch.equal(left, right) for left, right in combinations(heads, 2))


def test_weights_that_were_learned_under_a_seed_do_not_meet_their_first_head_again(tmp_path: Path) -> None:
    begun = build("resnet8", "random", seed=3)
    torch.save(begun.module.state_dict(), tmp_path / "weights.pth")
    assert not torch.equal(head_of(tmp_path / "weights.pth", 3), begun.module.get_parameter("fc.weight"))


def test_head_of_the_file_is_left_out_also_where_it_would_not_fit(tmp_path: Path) -> None:
    saved = state_of("resnet8")
    saved["fc.weight"] = torch.zeros(1000, 64)
    del saved["fc.bias"]
    torch.save(saved, tmp_path / "weights.pth")

    assert build("resnet8", str(tmp_path / "weights.pth")).module.get_parameter("fc.weight").shape == (7, 64)


def test_half_precision_file_gives_a_network_in_single_precision(tmp_path: Path) -> None:
    saved = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state_of("resnet8").items()
    }
    safetensors.torch.save_file(saved, tmp_path / "weights.safetensors")

    network = build("resnet8", str(tmp_path / "weights.safetensors"))

    assert {parameter.dtype for parameter in network.module.parameters()} == {torch.float32}


def test_old_file_without_batch_norm_counters_is_taken(tmp_path: Path) -> None:
    saved = {name: tensor for name, tensor in state_of("resnet8").items() if "num_batches" not in name}
    torch.save(saved, tmp_path / "weights.pth")

    loaded = build("resnet8", str(tmp_path / "weights.pth")).module.state_dict()

    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone(saved).items())


def test_old_names_of_published_densenet_files_are_understood(tmp_path: Path) -> None:
    saved = state_of("densenet121")
    old = OrderedDict(
        (
            name.replace("norm1", "norm.1")
            .replace("norm2", "norm.2")
            .replace("conv1", "conv.1")
            .replace("conv2", "conv.2"),
            t,
        )
        for name, t in saved.items()
    )
    assert old.keys() != saved.keys()
    torch.save(old, tmp_path / "weights.pth")

    loaded = build("densenet121", str(tmp_path / "weights.pth")).module.state_dict()

    assert same(backbone(dict(loaded), "classifier"), backbone(saved, "classifier"))


@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v3_small"])
def test_safetensors_of_versioned_modules_are_taken(tmp_path: Path, name: str) -> None:
    saved = state_of(name)
    safetensors.torch.save_file(saved, tmp_path / "weights.safetensors")

    network = build(name, str(tmp_path / "weights.safetensors"))

    assert same(backbone(network.module.state_dict(), "classifier"), backbone(saved, "classifier"))


def test_position_embeddings_are_interpolated_to_the_image_size(tmp_path: Path, own_weights: str) -> None:
    larger = torchvision.models.VisionTransformer(
        image_size=64, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    torch.save(larger.state_dict(), tmp_path / "weights.pth")

    network = build(f"{own_weights}:transformer", str(tmp_path / "weights.pth"))

    embedding = network.module.state_dict()["encoder.pos_embedding"]
    assert embedding.shape == (1, 1 + 4 * 4, 8)
    assert torch.equal(embedding[:, 0], larger.state_dict()["encoder.pos_embedding"][:, 0])


def test_imagenet_weights_come_from_the_cache_of_torch_hub(hub: Path) -> None:
    pretrained = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save(pretrained.state_dict(), hub / "mobilenet_v3_small-047dcff4.pth")

    network = build("mobilenet_v3_small", "imagenet")
    by_name = build("mobilenet_v3_small", "IMAGENET1K_V1")

    assert same(
        backbone(network.module.state_dict(), network.head_name), backbone(pretrained.state_dict(), network.head_name)
    )
    assert same(network.module.state_dict(), by_name.module.state_dict())
    assert network.mean == (0.485, 0.456, 0.406)
    assert network.note.startswith("208 of 208 backbone tensors from IMAGENET1K_V1")


@pytest.mark.parametrize("weights", ["ResNet50_Weights.IMAGENET1K_V2", "IMAGENET1K_V2", "DEFAULT"])
def test_weight_enums_are_known_by_every_name_they_have(weights: str) -> None:
    assert resolve_weights(spec("resnet50"), weights).enum_name == "IMAGENET1K_V2"


def test_auxiliary_classifiers_of_pretrained_googlenet_are_left_out(hub: Path) -> None:
    pretrained = torchvision.models.googlenet(weights=None, aux_logits=True, transform_input=True, init_weights=True)
    torch.save(pretrained.state_dict(), hub / "googlenet-1378be20.pth")
    images = torch.rand(2, 3, 64, 64)

    network = build("googlenet", "imagenet", image_size=64)

    usual = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    pretrained.eval().fc = torch.nn.Identity()
    network.module.fc = torch.nn.Identity()
    with torch.no_grad():
        assert torch.allclose(network.module(network.normalise(images)), pretrained(usual), atol=1e-6)


def test_normalisation_comes_from_the_card_beside_the_file(tmp_path: Path) -> None:
    card = WeightCard(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), pretrained_on="Fashion-MNIST", classes=("a", "b"))
    path = tmp_path / "weights.safetensors"
    write_weights(path, state_of("resnet8"), card, trained_with="2 epochs")

    network = build("resnet8", str(path))

    assert (network.mean, network.std) == (card.mean, card.std)
    assert "pretrained on Fashion-MNIST" in network.note
    assert read_card(path) == card


def test_digest_is_that_of_the_bytes_not_of_the_name(tmp_path: Path) -> None:
    for name, seed in (("a.pth", 1), ("b.pth", 1), ("c.pth", 2)):
        torch.save(state_of("resnet8", seed=seed), tmp_path / name)
    (tmp_path / "copy.pth").write_bytes((tmp_path / "a.pth").read_bytes())

    digests = {name: facts_digest("resnet8", str(tmp_path / name)) for name in ("a.pth", "copy.pth", "c.pth")}

    assert digests["a.pth"] == digests["copy.pth"] != digests["c.pth"]
    assert facts_digest("resnet8", "random") == "random"


def test_digest_follows_the_normalisation_on_the_card(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state_of("resnet8"), path)
    before = facts_digest("resnet8", str(path))
    path.with_suffix(".json").write_text('{"mean": [0, 0, 0], "std": [1, 1, 1]}')

    assert facts_digest("resnet8", str(path)) != before


def test_tensors_of_a_callable_are_its_as_built_weights(own_weights: str) -> None:
    network = build(f"{own_weights}:fixed", "as-built")

    assert network.module.state_dict()["2.weight"].unique().tolist() == [0.5]
    assert len(network.module.state_dict()["3.weight"].unique()) > 7
    assert network.note == "backbone as the callable returned it; fresh head"


def test_digest_of_a_callable_follows_its_tensors(
    own_weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = own_weights + "_edited"
    (tmp_path / f"{other}.py").write_text(MODULE.replace("VALUE", "0.25"))
    monkeypatch.syspath_prepend(tmp_path)

    assert facts_digest(f"{own_weights}:fixed", "as-built") == facts_digest(f"{own_weights}:fixed", "as-built")
    assert facts_digest(f"{own_weights}:fixed", "as-built") != facts_digest(f"{other}:fixed", "as-built")
    assert facts_digest(f"{own_weights}:seeded", "random") == facts_digest(f"{own_weights}:seeded", "random")


def test_callable_with_fixed_tensors_cannot_pass_as_random(own_weights: str) -> None:
    with pytest.raises(WeightsError, match=r":fixed: weights 'random': .*same tensors for every seed.*give as-built"):
        facts_digest(f"{own_weights}:fixed", "random")


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("resnet18", "IMAGENET1K_V3", r"IMAGENET1K_V3 does not exist .*did you mean IMAGENET1K_V\d"),
        (
            "resnet18",
            "imagnet",
            r"resnet18: weights 'imagnet': .*did you mean imagenet\? give random, imagenet, IMAGENET1K_V1 or a path",
        ),
        ("vit_h_14", "imagenet", r"IMAGENET1K_V1 does not exist for this model; give random, IMAGENET1K_SWAG_E2E_V1"),
        ("resnet18", "packaged", r"resnet18: weights 'packaged': exist for resnet8 and resnet20 alone; give random"),
        ("resnet56", "packaged", r"exist for resnet8 and resnet20 alone; give random or a path"),
        (
            "resnet8",
            "imagenet",
            r"resnet8: weights 'imagenet': unknown for this model; give random, packaged or a path",
        ),
        ("resnet18", "as-built", r"are for package.module:callable alone; give random, imagenet"),
        ("timm:resnet18", "packaged", r"give random, imagenet or a path"),
        (
            "resnet8",
            "nowhere/weights.pth",
            r"resnet8: weights 'nowhere/weights.pth': there is no such file \(looked at /",
        ),
    ],
)
def test_weights_that_a_model_cannot_have_are_refused_with_those_it_can(model: str, weights: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        resolve_weights(spec(model), weights)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors: tensors.pop("stage2.0.conv1.weight"), r"missing in the file: stage2\.0\.conv1\.weight; give"),
        (
            lambda tensors: tensors.update({"conv1.weight": torch.zeros(8, 3, 3, 3)}),
            r"of another shape: conv1\.weight is \[8, 3, 3, 3\] instead of \[16, 3, 3, 3\]; give a file",
        ),
        (
            lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("stage1")],
            r"missing in the file: stage1\.\S+; stage1\.\S+; stage1\.\S+ and 7 more;",
        ),
    ],
)
@pytest.mark.parametrize("check", [build, facts_digest])
def test_backbone_that_does_not_match_is_refused(tmp_path: Path, check, edit, message: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    tensors = state_of("resnet8")
    edit(tensors)
    path = tmp_path / "weights.pth"
    torch.save(tensors, path)

    with pytest.raises(WeightsError, match=message):
        check("resnet8", str(path))


def test_imagenet_weights_offline_say_where_the_file_would_lie_and_what_else_there_is(hub: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be downloaded") as caught:
        facts_digest("resnet18", "imagenet")

    message = str(caught.value)
    assert message.startswith("resnet18: weights 'imagenet'")
    assert str(hub / "resnet18-f37072fd.pth") in message
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert ".safetensors" in message
    assert "packaged" in message
    assert "random" in message


def test_timm_weights_offline_say_where_they_would_lie(monkeypatch: pytest.MonkeyPatch, hub: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(hub / "huggingface"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub / "huggingface" / "hub"))

    with pytest.raises(WeightsError, match=r"timm:test_vit: weights 'imagenet': timm cannot get them") as caught:
        facts_digest("timm:test_vit", "imagenet", image_size=32)
    assert str(hub / "huggingface" / "hub") in str(caught.value)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_say_what_they_were_pretrained_on(name: str) -> None:
    network = build(name, "packaged")

    assert "pretrained on" in network.note
    assert facts_digest(name, "packaged") != facts_digest(name, "random")


def test_packaged_weights_are_small() -> None:
    files = [resolve_weights(spec(name), "packaged").path for name in PACKAGED]

    assert sum(path.stat().st_size for path in files if path is not None) < 3_000_000
