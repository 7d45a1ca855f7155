"""Networks by name: heads, seeds, sizes, and what a wrong name says."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from raybench.errors import ModelError
from raybench.records import ModelSpec
from raybench.seeding import derive
from raybench.training.architectures import torchvision_names, usual_image_size
from raybench.training.freezing import freeze
from raybench.training.models import build_network, build_skeleton, model_facts
from raybench.training.network import Network

MODULE = """
import numpy, random, torch
from torch import nn

class Small(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.scores = nn.Linear(3, num_classes)
        self.embedding = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.tensor([random.random(), numpy.random.rand(), torch.rand(()).item()]))
    def forward(self, images):
        return self.scores(self.embedding(images.mean(dim=(2, 3)) * self.scale))

class Spare(Small):
    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.unused = nn.Linear(3, num_classes)

class Twice(Small):
    def forward(self, images):
        scores = self.scores(images.mean(dim=(2, 3)))
        return torch.cat((scores, scores), dim=1)

class Pair(Small):
    def forward(self, images):
        return super().forward(images), None

def twice_the_scores():
    model = Twice()
    del model.embedding
    return model

def pair(): return Pair()
def keyword_only(*, num_classes): return Small(num_classes)
def without_classes(): return Spare()
def needs_more(width, num_classes): return Small(num_classes)
def number(): return 3
def headless(): return nn.Flatten()
def raising(**arguments): raise KeyError("weights")
def convolutional(): return nn.Sequential(nn.Conv2d(3, 9, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
def large_only(): return nn.Sequential(nn.Conv2d(3, 4, 40), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
not_callable = 3
"""


def spec(name: str, head: str | None = None) -> ModelSpec:
    return ModelSpec(name=name, head=head)


def build(name: str, *, head: str | None = None, num_classes: int = 7, image_size: int = 16, seed: int = 0) -> Network:
    return build_network(spec(name, head), "random", num_classes=num_classes, image_size=image_size, seed=seed)


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an importable module with models of somebody's own."""
    (tmp_path / "own_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    return "own_models"


def test_torchvision_has_the_eighty_models_that_are_promised() -> None:
    assert len(torchvision_names()) >= 80


@pytest.mark.parametrize("name", torchvision_names())
def test_exactly_the_new_head_of_every_torchvision_model_learns_under_a_linear_probe(name: str) -> None:
    network = build_skeleton(spec(name), num_classes=7, image_size=usual_image_size(spec(name)))

    learning = freeze(network, "head")

    head = network.head
    assert isinstance(head, nn.Linear | nn.Conv2d)
    assert (head.out_features if isinstance(head, nn.Linear) else head.out_channels) == 7
    names = {name for name, parameter in network.module.named_parameters() if parameter.requires_grad}
    assert names == {f"{network.head_name}.{part}" for part, _ in head.named_parameters()}
    assert len(learning) == len(names) > 0
    assert all(parameter.is_meta for parameter in network.module.parameters())


@pytest.mark.parametrize(
    ("name", "head", "bias"),
    [("squeezenet1_0", "classifier.1", True), ("vit_b_16", "heads.head", True), ("maxvit_t", "classifier.5", False)],
)
def test_head_is_where_the_model_has_it_and_has_a_bias_where_it_had_one(name: str, head: str, bias: bool) -> None:
    network = build_skeleton(spec(name), num_classes=7, image_size=224)

    assert network.head_name == head
    assert (network.head.bias is not None) == bias


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_training_output_is_scores_alone_without_auxiliary_classifiers(name: str) -> None:
    network = build(name, image_size=96)
    network.module.train()

    assert network.module(torch.rand(2, 3, 96, 96)).shape == (2, 7)
    assert not any("aux" in part.lower() for part, _ in network.module.named_modules())


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnet18", 18),
        ("resnet50", 50),
        ("resnet8", 8),
        ("resnet56", 56),
        ("alexnet", 8),
        ("vgg16", 16),
        ("densenet121", 121),
    ],
)
def test_depth_is_the_number_in_the_name(name: str, depth: int) -> None:
    assert model_facts(build_skeleton(spec(name), num_classes=7, image_size=224)).depth == depth


def test_facts_of_resnet18_are_the_published_ones() -> None:
    network = build_skeleton(spec("resnet18"), num_classes=1000, image_size=224)

    facts = model_facts(network, "head")

    assert facts.parameters == 11_689_512
    assert facts.trainable_parameters == 513_000
    assert facts.model_bytes == 4 * (11_689_512 + 9_600) + 8 * 20  # and BatchNorm's statistics and counters


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build("resnet8").module.state_dict()
    torch.manual_seed(2)
    again = build("resnet8").module.state_dict()
    other = build("resnet8", seed=1).module.state_dict()

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "googlenet"])
def test_random_weights_are_the_librarys_own_and_the_head_is_torchs_default(name: str) -> None:
    arguments = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    with torch.random.fork_rng():
        torch.manual_seed(derive(3, "backbone"))
        expected = torchvision.models.get_model(name, **arguments)
        torch.manual_seed(derive(3, "head"))
        inputs = [part.in_features for part in expected.modules() if isinstance(part, nn.Linear)][-1]
        head = nn.Linear(inputs, 7)

    network = build(name, image_size=64, seed=3)

    tensors = network.module.state_dict()
    for part, tensor in expected.state_dict().items():
        if not part.startswith(f"{network.head_name}."):
            assert torch.equal(tensors[part], tensor), part
    assert isinstance(network.head, nn.Linear)
    assert torch.equal(network.head.weight, head.weight)
    assert network.head.bias is not None
    assert torch.equal(network.head.bias, head.bias)


def test_backbone_does_not_depend_on_the_classes() -> None:
    two, seven = (build("resnet8", num_classes=classes).module.state_dict() for classes in (2, 7))

    assert all(torch.equal(two[name], seven[name]) for name in two if not name.startswith("fc."))


def numpy_state() -> str:
    return str(np.random.get_state(legacy=False))  # noqa: NPY002 (the generator that callables may use)


def test_building_leaves_the_global_generators_alone(own_models: str) -> None:
    torch_before, numpy_before, python_before = torch.get_rng_state(), numpy_state(), random.getstate()

    build(f"{own_models}:Small", head="scores")
    build("resnet8")

    assert torch.equal(torch.get_rng_state(), torch_before)
    assert numpy_state() == numpy_before
    assert random.getstate() == python_before


def test_normalising_gives_what_the_network_expects() -> None:
    network = build("resnet8")

    normalised = network.normalise(torch.tensor(network.mean).view(1, 3, 1, 1).expand(2, 3, 4, 4))

    assert normalised.shape == (2, 3, 4, 4)
    assert normalised.abs().max() < 1e-6


@pytest.mark.parametrize("name", ["Small", "keyword_only", "without_classes"])
def test_callable_gives_a_network_for_the_classes(own_models: str, name: str) -> None:
    network = build(f"{own_models}:{name}", head="scores", num_classes=4)

    assert network.head_name == "scores"
    assert network.module(torch.rand(2, 3, 16, 16)).shape == (2, 4)


def test_callable_is_called_after_seeding_every_generator(own_models: str) -> None:
    scales = [
        build(f"{own_models}:Small", head="scores", seed=seed).module.get_parameter("scale") for seed in (0, 0, 1)
    ]

    assert torch.equal(scales[0], scales[1])
    assert (scales[0] != scales[2]).all()


def test_convolution_is_found_as_the_head_of_a_callable(own_models: str) -> None:
    network = build(f"{own_models}:convolutional")

    assert network.head_name == "0"
    assert network.module(torch.rand(2, 3, 16, 16)).shape == (2, 7)


def test_timm_model_states_its_own_head_and_normalisation() -> None:
    network = build("timm:test_vit", image_size=32)

    assert network.head_name == "head"
    assert network.mean == (0.5, 0.5, 0.5)
    assert network.module(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_missing_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(ModelError, match=r"timm:resnet18: .* pip install 'raybench\[timm\]'"):
        build("timm:resnet18")


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("alexnet", 63),
        ("vgg11", 32),
        ("inception_v3", 75),
        ("densenet121", 29),
        ("convnext_tiny", 32),
        ("maxvit_t", 221),
        ("squeezenet1_1", 17),
        ("googlenet", 15),
    ],
)
def test_too_small_an_image_names_the_smallest_that_works(name: str, smallest: int) -> None:
    with pytest.raises(ModelError, match=f"{name}.*image_size {smallest - 1}; the next size that works is {smallest} "):
        build_skeleton(spec(name), num_classes=7, image_size=smallest - 1)
    assert build_skeleton(spec(name), num_classes=7, image_size=smallest).image_size == smallest


def test_size_between_two_patches_names_the_next_multiple() -> None:
    with pytest.raises(ModelError, match=r"vit_b_32.*image_size 40; the next size that works is 64 "):
        build_skeleton(spec("vit_b_32"), num_classes=7, image_size=40)


@pytest.mark.parametrize(
    ("name", "head", "message"),
    [
        ("resnet19", None, r"unknown model 'resnet19'; did you mean resnet18"),
        ("timm:resnet19", None, r"unknown timm model 'resnet19'; did you mean .*resnet18"),
        ("timm:resnet18.nobody_in1k", None, r"timm:resnet18.nobody_in1k: unknown tag; give one of resnet18\.a1_in1k"),
        ("resnet8", "fd", r"resnet8: head 'fd' is not a Linear or 1x1 Conv2d .* nearest names fc"),
        ("resnet8", "stage3", r"resnet8: head 'stage3' is not a Linear"),
        ("no_such_module:Model", None, r"no_such_module:Model: No module named 'no_such_module'; .*PYTHONPATH"),
        ("own_models:Smal", None, r"own_models:Smal: own_models has no 'Smal'; did you mean Small"),
        ("own_models:not_callable", None, r"own_models:not_callable: is a int; a callable"),
        ("own_models:needs_more", None, r"calling it as \(num_classes=7\) failed: TypeError: .*'width'"),
        ("own_models:raising", None, r"calling it as \(num_classes=7\) failed: KeyError: 'weights'"),
        ("own_models:number", None, r"own_models:number: returned a int; a torch.nn.Module is needed"),
        ("own_models:headless", None, r"own_models:headless: has no Linear or 1x1 Conv2d"),
        ("own_models:Small", None, r"own_models:Small: fails once 'embedding' .* has 7 outputs, .*\{name: ..., head: "),
        ("own_models:Spare", "unused", r"own_models:Spare: does not use 'unused', .*\{name: ..., head: "),
        ("own_models:twice_the_scores", None, r"gives \[2, 14\] for two images where class scores \[2, 7\].*head: "),
        ("own_models:pair", "scores", r"gives a tuple for two images where class scores \[2, 7\].*head: "),
        ("own_models:large_only", None, r"own_models:large_only: .*image_size 16; the next size that works is 48 "),
    ],
)
def test_wrong_models_are_refused_with_what_would_be_right(
    own_models: str, name: str, head: str | None, message: str
) -> None:
    assert own_models

    with pytest.raises(ModelError, match=message):
        build(name, head=head)
