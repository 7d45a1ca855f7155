"""Which images a model takes: a module and an image size in, a clear error out where they do not go together.

torchvision's models and the CIFAR ResNets are tried on the meta device, without computing anything; timm's models and
callables must really compute, since their code may hold tensors of its own.
"""

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from raybench.errors import ModelError
from raybench.records import ModelSpec
from raybench.training.architectures import build_architecture, depends_on_image_size, model_kind
from raybench.training.heads import replace_head

LARGEST_SIZE_TRIED: Final = 384
"""Pixels; above it no smallest image size is searched for."""

COMMON_SIZES: Final = (16, 24, 28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 336, LARGEST_SIZE_TRIED)
"""Sizes tried on models that must really compute, which takes time."""


def works_on_meta(spec: ModelSpec) -> bool:
    """Whether the model can be built and run on the meta device."""
    return model_kind(spec) in {"cifar", "torchvision"}


def require_scores(spec: ModelSpec, module: nn.Module, head_name: str, *, num_classes: int, image_size: int) -> None:
    """Run two black images through `module` in eval mode; raise unless [2, num_classes] comes out.

    Raises ModelError: with the next size that works where the image size is at fault, else with what came out and how
    to name another head. torchvision's models and the CIFAR ResNets are tried once a process.
    """
    if works_on_meta(spec):
        _require_scores_of_skeleton(spec, head_name, num_classes=num_classes, image_size=image_size)
    else:
        _require_scores(spec, module, head_name, num_classes=num_classes, image_size=image_size)


@lru_cache(maxsize=256)
def _require_scores_of_skeleton(spec: ModelSpec, head_name: str, *, num_classes: int, image_size: int) -> None:
    skeleton = _build(spec, image_size)
    replace_head(skeleton, head_name, num_classes=num_classes)
    _require_scores(spec, skeleton, head_name, num_classes=num_classes, image_size=image_size)


def _require_scores(spec: ModelSpec, module: nn.Module, head_name: str, *, num_classes: int, image_size: int) -> None:
    uses: list[str] = []
    try:
        with module.get_submodule(head_name).register_forward_hook(lambda *_: uses.append(head_name)):
            output = _forward(module, image_size, on_meta=works_on_meta(spec))
    except Exception as error:  # a model may fail with any exception
        if not _works(spec, None, image_size, on_meta=works_on_meta(spec)):
            raise size_error(spec, image_size=image_size, error=error) from error
        raise ModelError(
            f"{spec.name}: fails once {head_name!r} as its head has {num_classes} outputs, so that is not its last "
            f"layer; give the head's name: {{name: ..., head: ...}} ({_one_line(error)})"
        ) from error
    if not uses:
        raise ModelError(
            f"{spec.name}: does not use {head_name!r}, so that is not its head; give the head's name: "
            "{name: ..., head: ...}"
        )
    if isinstance(output, Tensor) and output.shape == (2, num_classes):
        return
    what = list(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise ModelError(
        f"{spec.name}: gives {what} for two images where class scores [2, {num_classes}] are needed; return the scores "
        "alone, from the last Linear or 1x1 Conv2d, or give the head's name: {name: ..., head: ...}"
    )


def size_error(spec: ModelSpec, *, image_size: int, error: Exception) -> ModelError:
    """Return the error that says why images of `image_size` cannot be used, and the next larger size that can."""
    reason = _one_line(error)
    larger = _next_working_size(spec, image_size)
    if larger is None:
        return ModelError(
            f"{spec.name}: cannot take images of image_size {image_size}, nor any size tried up to "
            f"{LARGEST_SIZE_TRIED} ({reason})"
        )
    return ModelError(
        f"{spec.name}: cannot take images of image_size {image_size}; the next size that works is {larger} ({reason})"
    )


def _next_working_size(spec: ModelSpec, image_size: int) -> int | None:
    on_meta = works_on_meta(spec)
    sizes = range(image_size + 1, LARGEST_SIZE_TRIED + 1) if on_meta else COMMON_SIZES
    fixed = None if depends_on_image_size(spec) else _build(spec, image_size)
    return next((size for size in sizes if size > image_size and _works(spec, fixed, size, on_meta=on_meta)), None)


def _works(spec: ModelSpec, module: nn.Module | None, size: int, *, on_meta: bool) -> bool:
    try:
        _forward(module or _build(spec, size), size, on_meta=on_meta)
    except Exception:  # noqa: BLE001 (a model may fail with any exception)
        return False
    return True


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _build(spec: ModelSpec, image_size: int) -> nn.Module:
    return build_architecture(spec, num_classes=2, image_size=image_size, skeleton=True)


def _forward(module: nn.Module, image_size: int, *, on_meta: bool) -> object:
    module.eval()
    shape = (2, 3, image_size, image_size)
    with torch.no_grad():
        if not on_meta:
            return module(torch.zeros(shape))
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        return functional_call(
            module,
            {name: tensor.to("meta") for name, tensor in tensors.items()},
            (torch.empty(shape, device="meta"),),
        )
