"""The best epoch's weights, kept while training goes on."""

import torch

from raybench.records import ModelSpec
from raybench.training.backbone import head_tensors
from raybench.training.best_weights import BestWeights
from raybench.training.models import build_network
from raybench.training.network import Network


def network() -> Network:
    spec = ModelSpec(name="resnet8", head=None)
    return build_network(spec, "random", num_classes=7, image_size=16, seed=0)


def learn(part: Network, *names: str) -> None:
    tensors = part.module.state_dict()
    for name in names:
        tensors[name].add_(1)


def test_only_the_head_is_kept_while_nothing_else_learns() -> None:
    trained = network()
    best = BestWeights(trained)

    best.keep()

    assert best.tensors().keys() == head_tensors(trained).keys() == best.learning().keys()


def test_what_was_kept_last_comes_back() -> None:
    trained, once = network(), network()
    learn(once, "fc.bias")
    best = BestWeights(trained)

    best.keep()
    learn(trained, "fc.bias")
    best.keep()
    learn(trained, "fc.bias", "fc.weight")
    best.restore()

    expected = once.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.module.state_dict().items())


def test_a_backbone_that_is_trained_later_comes_back_as_it_was() -> None:
    trained, untouched = network(), network()
    best = BestWeights(trained)

    best.keep()
    best.include_backbone()
    learn(trained, "fc.bias", "conv1.weight", "bn1.running_mean")
    best.restore()

    expected = untouched.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.module.state_dict().items())
    assert best.tensors().keys() == expected.keys() == best.learning().keys()


def test_one_copy_is_written_over() -> None:
    trained = network()
    best = BestWeights(trained)
    best.include_backbone()

    best.keep()
    places = {name: tensor.data_ptr() for name, tensor in best.tensors().items()}
    best.keep()

    assert {name: tensor.data_ptr() for name, tensor in best.tensors().items()} == places
