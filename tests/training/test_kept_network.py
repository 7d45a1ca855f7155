"""A network handed from one trial to the next is the one that would have been built."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from raybench.records import ModelSpec
from raybench.training.kept_network import initial_network, keep_network
from raybench.training.models import build_network
from raybench.training.network import Network
from raybench.training.weight_files import WeightCard, write_weights

RESNET8 = ModelSpec(name="resnet8", head=None)


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    first()  # whatever was kept is dropped


def first(weights: str = "random", *, seed: int = 0, num_classes: int = 7, image_size: int = 16) -> Network:
    return initial_network(RESNET8, weights, num_classes=num_classes, image_size=image_size, seed=seed)


def kept(weights: str = "random", *, seed: int = 0) -> Network:
    """Return a network that a linear probe has trained and left."""
    network = first(weights, seed=seed)
    network.module.train()
    with torch.no_grad():
        network.module.get_parameter("fc.weight").add_(1)
    keep_network(network, RESNET8, weights, seed=seed)
    return network


def is_as_built(network: Network, weights: str = "random", *, seed: int = 0, num_classes: int = 7) -> bool:
    built = build_network(RESNET8, weights, num_classes=num_classes, image_size=16, seed=seed)
    tensors, expected = network.module.state_dict(), built.module.state_dict()
    same = all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())
    return same and tensors.keys() == expected.keys() and not any(part.training for part in network.module.modules())


def test_the_same_backbone_is_handed_on_with_a_fresh_head() -> None:
    before = kept()

    after = first()

    assert after.module is before.module
    assert is_as_built(after)


def test_weights_of_a_file_serve_every_seed_and_number_of_classes() -> None:
    before = kept("packaged")

    after = first("packaged", seed=3, num_classes=4)

    assert after.module is before.module
    assert is_as_built(after, "packaged", seed=3, num_classes=4)


def test_random_weights_of_another_seed_are_another_backbone() -> None:
    before = kept()

    after = first(seed=1)

    assert after.module is not before.module
    assert is_as_built(after, seed=1)


def test_a_network_is_handed_on_once() -> None:
    before = kept()

    assert first().module is before.module
    assert first().module is not before.module


def test_a_weight_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for seed in (5, 6):
        tensors = build_network(RESNET8, "random", num_classes=7, image_size=16, seed=seed).module.state_dict()
        mean = (0.1 * seed,) * 3
        write_weights(path, tensors, WeightCard(mean=mean, std=(1.0, 1.0, 1.0)))
        network = kept(str(path))
        assert network.mean == mean
        assert torch.equal(network.module.state_dict()["conv1.weight"], tensors["conv1.weight"])


def test_another_image_size_is_another_network() -> None:
    before = kept()

    after = first(image_size=32)

    assert after.module is not before.module
    assert after.image_size == 32
