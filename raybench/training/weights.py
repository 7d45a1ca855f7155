"""Initial weights: a model and a word for its weights in, tensors and their normalisation out.

| weights | what it means | for |
| --- | --- | --- |
| `random` | the architecture's own initialisation, seeded | every model |
| `imagenet` | IMAGENET1K_V1, or what timm calls pretrained | torchvision, timm |
| a weight enum's name, such as IMAGENET1K_V2 | torchvision's weights of that name | torchvision |
| `packaged` | small weights that raybench itself ships | resnet8, resnet20 |
| `as-built` | the tensors that the callable returned | `package.module:callable` |
| a path | a .pth, .pt or .safetensors file | every model |

Only the backbone's tensors are used: every comparison starts from a fresh head, also where a file has one that fits.
"""

import contextlib
import difflib
import importlib.resources
import io
import os
import re
import socket
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from raybench.errors import WeightsError
from raybench.experiment import FILE_SUFFIXES
from raybench.records import ModelSpec
from raybench.training.architectures import Normalisation, model_kind
from raybench.training.heads import head_keys
from raybench.training.weight_files import read_card, read_tensors

PACKAGED: Final = ("resnet8", "resnet20")
"""Models whose weights raybench ships."""

DOWNLOAD_TIMEOUT_SECONDS: Final = 30.0
"""Without an answer for this long, a download counts as impossible."""

NAMES_SHOWN: Final = 3
"""Most tensor names in one error message."""

_OLD_DENSENET_KEY: Final = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")
"""Published DenseNet files say `norm.1.weight` where the module says `norm1.weight`."""


_BUILT_IN_NOTES: Final = {
    "random": "",
    "as-built": "backbone as the callable returned it; fresh head",
    "timm": "backbone as timm pretrained it; fresh head",
}
"""Notes on weights that are in the module once it is built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsSource:
    """Where the tensors of one choice of weights are."""

    kind: Literal["random", "as-built", "timm", "hub", "file"]
    label: str
    """For messages: the choice as the user knows it."""
    path: Path | None = None
    """Of the file; for `hub` where torch hub keeps it, perhaps not there yet."""
    url: str | None = None
    """Where it is downloaded from, for `hub`."""
    enum_name: str | None = None
    """Name among the model's torchvision weights, for `hub`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedWeights:
    """What was put into a backbone."""

    normalisation: Normalisation | None
    """What the weights expect; None where they do not say."""
    note: str


def resolve_weights(spec: ModelSpec, weights: str) -> WeightsSource:
    """Find out what `weights` means for the model, without reading or downloading anything.

    Raises WeightsError where the word is unknown or the model has no such weights, or a file is missing.
    """
    kind = model_kind(spec)
    label = f"{spec.name}: weights {weights!r}"
    if weights == "random":
        return WeightsSource(kind="random", label=label)
    if weights == "as-built":
        if kind != "callable":
            raise WeightsError(f"{label}: are for package.module:callable alone; {_accepted(spec, weights)}")
        return WeightsSource(kind="as-built", label=label)
    if weights == "packaged":
        return WeightsSource(kind="file", label=label, path=_packaged_file(spec, label))
    if Path(weights).suffix in FILE_SUFFIXES:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"{label}: there is no such file (looked at {path.absolute()})")
        return WeightsSource(kind="file", label=label, path=path)
    if kind == "timm" and weights == "imagenet":
        return WeightsSource(kind="timm", label=label)
    if kind == "torchvision":
        return _hub_source(spec, weights, label)
    raise WeightsError(f"{label}: unknown for this model; {_accepted(spec, weights)}")


def load_backbone(
    module: nn.Module, head_name: str, source: WeightsSource, *, image_size: int, assign: bool = False
) -> LoadedWeights:
    """Put the tensors of a `hub` or `file` source into every part of `module` but the head.

    `assign` replaces tensors instead of copying into them, for modules on the meta device. Position embeddings of
    torchvision's vision transformers are interpolated to `image_size`.

    Raises WeightsError where the file cannot be had or read, or where tensors of the backbone are missing in it or of
    another shape: up to three are named. Tensors that the module lacks (an old head, auxiliary classifiers) are
    left out and counted in the note.
    """
    if source.path is not None and source.url is not None:
        tensors = _hub_tensors(source, source.path, source.url)
        normalisation, about = None, str(source.enum_name)
    elif source.path is not None:
        tensors = read_tensors(source.path)
        card = read_card(source.path)
        normalisation = None
        if card.mean is not None and card.std is not None:
            normalisation = Normalisation(mean=card.mean, std=card.std)
        about = source.path.name + (f", pretrained on {card.pretrained_on}" if card.pretrained_on else "")
    else:
        return LoadedWeights(normalisation=None, note=_BUILT_IN_NOTES[source.kind])
    filled, unused = _load(module, head_name, tensors, source.label, image_size=image_size, assign=assign)
    left_out = f", {unused} other tensors left out" if unused else ""
    return LoadedWeights(
        normalisation=normalisation, note=f"{filled} of {filled} backbone tensors from {about}{left_out}; fresh head"
    )


def _load(
    module: nn.Module, head_name: str, tensors: OrderedDict[str, Tensor], label: str, *, image_size: int, assign: bool
) -> tuple[int, int]:
    """Load everything but the head; return how many backbone tensors were filled and how many of the file left out."""
    own = module.state_dict()
    head = {name for name in tensors if name.startswith(head_name + ".")}
    for name in list(tensors):
        renamed = _OLD_DENSENET_KEY.sub(r"\1\2", name)
        if name in head:
            del tensors[name]
        elif renamed != name:
            tensors[renamed] = tensors.pop(name)
    if isinstance(module, VisionTransformer) and "encoder.pos_embedding" in tensors:
        try:
            interpolate_embeddings(image_size, module.patch_size, tensors)
        except ValueError as error:
            raise WeightsError(f"{label}: position embeddings do not fit image_size {image_size}: {error}") from error
    if not hasattr(tensors, "_metadata"):  # safetensors keep no version numbers: taken to be today's
        tensors._metadata = own._metadata  # type: ignore[attr-defined]  # noqa: SLF001 (where torch keeps them)
    wrong = [
        f"{name} is {list(tensors[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if wrong:
        raise _mismatch(label, wrong, "of another shape")
    try:
        result = module.load_state_dict(tensors, strict=False, assign=assign)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{label}: do not fit the model: {' '.join(str(error).split())}") from error
    # BatchNorm's step counters decide nothing where momentum is set, and old files lack them.
    needed = {name for name in own if not name.endswith("num_batches_tracked")} - set(head_keys(module, head_name))
    missing = [name for name in result.missing_keys if name in needed]
    if missing:
        raise _mismatch(label, missing, "missing in the file")
    return len(needed), len(head) + len(result.unexpected_keys)


def _mismatch(label: str, problems: list[str], what: str) -> WeightsError:
    more = f" and {len(problems) - NAMES_SHOWN} more" if len(problems) > NAMES_SHOWN else ""
    return WeightsError(
        f"{label}: tensors of the backbone are {what}: {'; '.join(problems[:NAMES_SHOWN])}{more}; "
        "give a file of the same architecture"
    )


def _hub_source(spec: ModelSpec, weights: str, label: str) -> WeightsSource:
    enums = torchvision.models.get_model_weights(spec.name)
    wanted = "IMAGENET1K_V1" if weights == "imagenet" else weights.removeprefix(f"{enums.__name__}.")
    if wanted not in enums.__members__:
        raise WeightsError(f"{label}: {wanted} does not exist for this model; {_accepted(spec, weights)}")
    url = enums[wanted].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return WeightsSource(kind="hub", label=label, path=path, url=url, enum_name=enums[wanted].name)


def _hub_tensors(source: WeightsSource, path: Path, url: str) -> OrderedDict[str, Tensor]:
    if path.is_file():
        return read_tensors(path)
    try:
        watched = sys.stderr.isatty()
        announced = sys.stderr if watched else io.StringIO()  # torch.hub announces the download on stdout
        with _download_timeout(), contextlib.redirect_stdout(announced):
            torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=watched, check_hash=True, weights_only=True
            )
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{source.label}: cannot be downloaded ({error}); put the file {url} at {path}, or give a path to a .pth "
            f"or .safetensors file, 'random', or 'packaged' with {' or '.join(PACKAGED)}"
        ) from error
    return read_tensors(path)


def timm_weights_error(source: WeightsSource, error: Exception) -> WeightsError:
    """Return the error that says that timm could not get its pretrained weights, and what to do instead."""
    cache = os.environ.get("HF_HUB_CACHE") or str(
        Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"
    )
    return WeightsError(
        f"{source.label}: timm cannot get them ({' '.join(str(error).split())}); it keeps them under {cache} and "
        f"{Path(torch.hub.get_dir()) / 'checkpoints'}: fill that where there is a network, or give a path to a .pth or "
        ".safetensors file, or 'random'"
    )


@contextlib.contextmanager
def _download_timeout() -> Iterator[None]:
    """Give up on a silent network: torch.hub itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _packaged_file(spec: ModelSpec, label: str) -> Path:
    if spec.name not in PACKAGED:
        raise WeightsError(f"{label}: exist for {' and '.join(PACKAGED)} alone; {_accepted(spec, 'packaged')}")
    path = Path(str(importlib.resources.files("raybench"))) / "weights" / f"{spec.name}.safetensors"
    if not path.is_file():
        raise WeightsError(f"{label}: are missing in this installation (looked at {path}); install raybench again")
    return path


def _accepted(spec: ModelSpec, instead_of: str) -> str:
    words = ["random"]
    match model_kind(spec):
        case "torchvision":
            names = [member.name for member in torchvision.models.get_model_weights(spec.name)]
            words += [*(["imagenet"] if "IMAGENET1K_V1" in names else []), *names]
        case "timm":
            words.append("imagenet")
        case "callable":
            words.append("as-built")
        case "cifar" if spec.name in PACKAGED:
            words.append("packaged")
    close = difflib.get_close_matches(instead_of, words, n=1) if instead_of not in words else []
    near = f"did you mean {close[0]}? " if close else ""
    return f"{near}give {', '.join(words)} or a path that ends with {', '.join(FILE_SUFFIXES)}"
