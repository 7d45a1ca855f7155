"""Networks: a `ModelSpec` and a choice of weights in, a `Network` with a fresh head for the dataset's classes out.

Initial weights depend on the seed alone, not on the strategy, the dataset or what was drawn before: the backbone and
the head have seeds of their own, and torch's global generator is left as it was.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import nn

from raybench.errors import RaybenchError, WeightsError
from raybench.records import ModelSpec, WeightsFacts
from raybench.seeding import derive
from raybench.training.architectures import build_architecture, model_kind, normalisation_of, timm_head
from raybench.training.backbone import backbone_digest
from raybench.training.freezing import learning_parameters
from raybench.training.heads import find_head, replace_head
from raybench.training.image_sizes import require_scores, size_error, works_on_meta
from raybench.training.network import Network
from raybench.training.weight_files import file_digest
from raybench.training.weights import WeightsSource, load_backbone, resolve_weights, timm_weights_error

SHORTCUT_NAMES: Final = frozenset({"downsample", "shortcut", "proj"})
"""What torchvision and timm call the 1x1 convolution in a residual block's shortcut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """How large a network is."""

    model: str
    depth: int
    """Convolutions and linear layers, those in parallel branches and squeeze-and-excitation included, 1x1 convolutions
    in shortcuts not: 18 for resnet18, 8 for alexnet. Attention counts its output projection alone, where its inputs'
    projections are bare parameters."""
    parameters: int
    trainable_parameters: int
    """Under the `train` that was asked for."""
    model_bytes: int
    """Parameters and buffers as they are saved."""


def build_network(spec: ModelSpec, weights: str, *, num_classes: int, image_size: int, seed: int) -> Network:
    """Build the model on the CPU in float32 with its initial weights and a fresh head.

    The head is always new, with PyTorch's default initialisation, also where the weights or a callable bring one that
    would fit: a comparison of backbones starts from the same kind of head. `random` is the architecture's own
    initialisation; a callable is called after seeding torch, numpy and random, and its `random` and `as-built`
    are both what it returns.

    The network is in eval mode. Raises ModelError (unknown, no head, image_size too small) and WeightsError (missing,
    offline, mismatched).
    """
    source = resolve_weights(spec, weights)
    return _assemble(spec, source, num_classes=num_classes, image_size=image_size, seed=seed, skeleton=False)


def replace_head_of(network: Network, *, num_classes: int, seed: int) -> Network:
    """Return a network whose backbone is as it was built as `build_network` would build it for a seed and classes.

    It is the same module, with another head, in eval mode; where its weights are random, the seed must be the same.
    """
    _draw_head(network, num_classes=num_classes, seed=seed)
    network.module.eval()
    return network


def _draw_head(network: Network, *, num_classes: int, seed: int) -> None:
    """Replace the head by one that the seed gives: for a backbone that has learned, that the two of them give.

    Weights may come from a training of the same seed. Drawn by the seed alone, the head would be the very one that this
    backbone learned with, and a linear probe on like classes would start where that training ended, or nearly so.
    """
    company = (backbone_digest(network),) if network.has_learned else ()
    with _seeded(derive(seed, "head", *company)):
        replace_head(network.module, network.head_name, num_classes=num_classes)


def build_skeleton(
    spec: ModelSpec, weights: str = "random", *, num_classes: int, image_size: int, seed: int = 0
) -> Network:
    """Build the model with shapes but without numbers, on the meta device: in no time and no memory.

    A weight file is loaded into it and checked like `build_network` does; the head stays without numbers. timm's
    models and callables are really built. Raises ModelError and WeightsError as `build_network` does.
    """
    source = resolve_weights(spec, weights)
    return _assemble(spec, source, num_classes=num_classes, image_size=image_size, seed=seed, skeleton=True)


def build_unset(spec: ModelSpec, *, num_classes: int, image_size: int) -> Network:
    """Build the model on the CPU for whoever loads all of its tensors: what they are before means nothing.

    Raises ModelError as `build_network` does.
    """
    source = resolve_weights(spec, "random")
    return _assemble(spec, source, num_classes=num_classes, image_size=image_size, seed=0, skeleton=False, unset=True)


def weights_facts(spec: ModelSpec, weights: str, *, num_classes: int, image_size: int) -> WeightsFacts:
    """Check that the model can be built with these weights for these images, and say what the weights are.

    The digest is that of the file's bytes; `random` for random weights; for a callable and for timm's pretrained
    weights that of the backbone's tensors (of a callable's random weights: those of seed 0), so that an edited
    callable is another model. Downloads what torch hub or timm lack.

    Raises ModelError and WeightsError as `build_network` does, and WeightsError where a callable gives the same
    tensors under two seeds but its weights are called `random`.
    """
    source = resolve_weights(spec, weights)
    network = build_skeleton(spec, weights, num_classes=num_classes, image_size=image_size)
    if source.path is not None:
        digest = file_digest(source.path)
    elif source.kind == "random" and model_kind(spec) != "callable":
        digest = "random"
    else:
        digest = backbone_digest(network)
    if source.kind == "random" and model_kind(spec) == "callable":
        other = build_skeleton(spec, weights, num_classes=num_classes, image_size=image_size, seed=1)
        if backbone_digest(other) == digest:
            raise WeightsError(
                f"{source.label}: the callable returns the same tensors for every seed, so they are not random; "
                "give as-built"
            )
        digest = f"random {digest}"
    return WeightsFacts(model=spec.name, weights=weights, digest=digest, note=network.note)


def model_facts(network: Network, train: str | tuple[str, ...] = "all") -> ModelFacts:
    """Return how large the network, or skeleton, is and how much of it learns under `train`."""
    return ModelFacts(
        model=network.name,
        depth=sum(_counts_as_layer(name, part) for name, part in network.module.named_modules()),
        parameters=sum(parameter.numel() for parameter in network.module.parameters()),
        trainable_parameters=sum(parameter.numel() for parameter in learning_parameters(network, train)),
        model_bytes=sum(tensor.nbytes for tensor in network.module.state_dict().values()),
    )


def _assemble(
    spec: ModelSpec,
    source: WeightsSource,
    *,
    num_classes: int,
    image_size: int,
    seed: int,
    skeleton: bool,
    unset: bool = False,
) -> Network:
    """Build, replace the head, check that a forward pass gives class scores, and load the backbone."""
    skeleton = skeleton and works_on_meta(spec)
    unset = unset or source.path is not None
    with _seeded(derive(seed, "backbone")):
        module = _build(spec, source, num_classes=num_classes, image_size=image_size, skeleton=skeleton, unset=unset)
        torch.manual_seed(derive(seed, "head"))
        head_name = find_head(module, model=spec.name, named=spec.head or timm_head(module))
        replace_head(module, head_name, num_classes=num_classes)
        require_scores(spec, module, head_name, num_classes=num_classes, image_size=image_size)
        loaded = load_backbone(module, head_name, source, image_size=image_size, assign=skeleton)
    normalisation = loaded.normalisation or normalisation_of(spec)
    network = Network(
        name=spec.name,
        module=module.eval(),
        head_name=head_name,
        image_size=image_size,
        mean=normalisation.mean,
        std=normalisation.std,
        note=loaded.note,
        has_learned=source.kind != "random",
    )
    if network.has_learned and not skeleton:
        _draw_head(network, num_classes=num_classes, seed=seed)
        module.eval()
    return network


def _build(
    spec: ModelSpec, source: WeightsSource, *, num_classes: int, image_size: int, skeleton: bool, unset: bool = False
) -> nn.Module:
    if source.kind == "timm":
        # First without weights: what fails then is the model or the image size, what fails after it the weights.
        _build(spec, replace(source, kind="random"), num_classes=num_classes, image_size=image_size, skeleton=False)
    try:
        return build_architecture(
            spec,
            num_classes=num_classes,
            image_size=image_size,
            pretrained=source.kind == "timm",
            skeleton=skeleton,
            unset=unset,
        )
    except RaybenchError:
        raise
    except Exception as error:  # libraries refuse image sizes, and miss weights, with any exception
        if source.kind == "timm":
            raise timm_weights_error(source, error) from error
        raise size_error(spec, image_size=image_size, error=error) from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed every global generator that a model's code may draw from, and put them back afterwards."""
    numpy_state = np.random.get_state()  # noqa: NPY002 (somebody's callable may use the global generator)
    python_state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _counts_as_layer(name: str, part: nn.Module) -> bool:
    if isinstance(part, nn.Conv2d):
        return part.kernel_size != (1, 1) or SHORTCUT_NAMES.isdisjoint(name.split("."))
    return isinstance(part, nn.Linear)
