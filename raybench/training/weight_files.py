"""Weight files: a .pth, .pt or .safetensors file in, named tensors out, and the card that lies beside it.

Read without running any code that a file may carry. A card is FILE.json beside FILE.safetensors: what the weights are
for, how images were normalised, what they were pretrained on. A file may hold a head alone: its card then names the
file beside it that has the backbone, which many heads share.
"""

import hashlib
import json
import math
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from raybench.errors import WeightsError
from raybench.experiment import FILE_SUFFIXES
from raybench.regular import check_regular

NESTING_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts put the tensors of a checkpoint, in the order they are looked for."""

WRAPPER_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")
"""What torch.compile, DistributedDataParallel and both together put before every name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightCard:
    """What is written beside a weight file."""

    model: str | None = None
    """Name of the architecture."""
    classes: tuple[str, ...] | None = None
    """In the order of the head's outputs."""
    image_size: int | None = None
    """Side in pixels."""
    mean: tuple[float, float, float] | None = None
    """With `std`: the normalisation that the weights expect, for images in 0..1."""
    std: tuple[float, float, float] | None = None
    pretrained_on: str | None = None
    """In words: data, images, what it reached."""
    backbone_file: str | None = None
    """Name of the file in the same folder that holds all tensors but these; None: these are all."""


_CARD_TYPES: dict[str, tuple[Any, str]] = {
    "model": (str | None, "a text"),
    "classes": (list | None, "a list of names"),
    "image_size": (int | None, "a whole number"),
    "pretrained_on": (str | None, "a text"),
}
"""What keys of a card hold, and how to say so."""


def card_path(path: Path) -> Path:
    """Return where the card of a weight file lies."""
    return path.with_suffix(".json")


def read_card(path: Path) -> WeightCard:
    """Read the card of the weight file `path`; an empty card where there is none.

    Other keys than the card's own are ignored. Raises WeightsError where it is no JSON object, where mean or std
    are not three finite numbers (std above 0) or only one of them is given, or where backbone_file is no file name.
    """
    where = card_path(path)
    try:
        check_regular(where)
        entries = json.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return WeightCard()
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{where}: cannot be read as JSON: {error}") from error
    if not isinstance(entries, dict):
        raise WeightsError(f"{where}: is not a JSON object but a {type(entries).__name__}")
    if (entries.get("mean") is None) != (entries.get("std") is None):
        raise WeightsError(f"{where}: mean and std belong together; give both or neither")
    backbone_file = entries.get("backbone_file")
    if backbone_file is not None and (backbone_file == "" or Path(str(backbone_file)).name != backbone_file):
        raise WeightsError(f"{where}: backbone_file {backbone_file!r} is not the name of a file beside it")
    classes = entries.get("classes")
    for key, (kind, wanted) in _CARD_TYPES.items():
        if not isinstance(entries.get(key), kind) or isinstance(entries.get(key), bool):
            raise WeightsError(f"{where}: {key} is not {wanted}")
    return WeightCard(
        model=entries.get("model"),
        classes=None if classes is None else tuple(str(name) for name in classes),
        image_size=entries.get("image_size"),
        mean=_three(entries.get("mean"), where, "mean"),
        std=_three(entries.get("std"), where, "std"),
        pretrained_on=entries.get("pretrained_on"),
        backbone_file=backbone_file,
    )


def write_weights(path: Path, tensors: Mapping[str, Tensor], card: WeightCard, **more: Any) -> None:  # noqa: ANN401
    """Write `tensors` as safetensors to `path` and the card beside it, `more` among the card's keys."""
    write_card(path, card, **more)
    write_tensors(path, tensors)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors as safetensors, without a card, with the permissions that new files have here."""
    path.touch()
    permissions = path.stat().st_mode
    safetensors.torch.save_file(_separate(tensors), path, metadata)
    # safetensors makes files that only their owner can read; a run directory may be shared.
    path.chmod(permissions)


def write_card(path: Path, card: WeightCard, **more: Any) -> None:  # noqa: ANN401
    """Write the card of the file `path` beside it, `more` among its keys."""
    card_path(path).write_text(json.dumps({**asdict(card), **more}, indent=2) + "\n", encoding="utf-8")


def read_tensors(path: Path) -> OrderedDict[str, Tensor]:
    """Read the tensors of a weight file onto the CPU, by name.

    Checkpoints that keep them under `state_dict`, `model_state_dict` or `model` are unpacked, entries that are no
    tensors left out, and the prefixes of DistributedDataParallel and torch.compile taken off.

    Where its card names a file with the backbone, the tensors of both are returned.

    Raises WeightsError where the file is missing, damaged, holds no tensors, or is a pickle that would run code.
    """
    tensors = _read_file(path)
    backbone_file = read_card(path).backbone_file
    if backbone_file is None:
        return tensors
    if not path.with_name(backbone_file).is_file():
        raise WeightsError(
            f"weights {str(path)!r}: hold a head alone, and {backbone_file} with its backbone is not beside them; copy "
            "both, or let 'raybench export' write one file with everything"
        )
    backbone = _read_file(path.with_name(backbone_file))
    return OrderedDict([*backbone.items(), *tensors.items()])


def _read_file(path: Path) -> OrderedDict[str, Tensor]:
    if path.suffix not in FILE_SUFFIXES:
        raise WeightsError(f"weights {str(path)!r}: a file that ends with {', '.join(FILE_SUFFIXES)} is needed")
    if not path.is_file():
        raise WeightsError(f"weights {str(path)!r}: there is no such file (looked at {path.absolute()})")
    try:
        loaded: Any
        if path.suffix == ".safetensors":
            loaded = safetensors.torch.load_file(path)
        else:
            # Mapped where the format allows it: half the time of reading, since what loads them copies them anyway.
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected pickle protocol")  # what it cannot read, it says so
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # bytes that are no weight file fail in any way
        raise WeightsError(f"weights {str(path)!r}: {_why_unreadable(error)}") from error
    tensors = _unpacked(loaded)
    if not tensors:
        raise WeightsError(
            f"weights {str(path)!r}: holds no named tensors; save model.state_dict(), or a dict with it under "
            f"{' or '.join(NESTING_KEYS)}"
        )
    return tensors


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a weight file's bytes and of what its card adds: normalisation, the backbone's file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    card = read_card(path)
    if card.mean is not None:
        digest.update(json.dumps([card.mean, card.std]).encode())
    if card.backbone_file is not None:
        digest.update(file_digest(path.with_name(card.backbone_file)).encode())
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: names, types, shapes and bytes, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, contiguous, none of them sharing memory with another."""
    separate = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        separate[name] = own.clone() if memory in taken else own
        taken.add(memory)
    return separate


def _unpacked(loaded: object) -> OrderedDict[str, Tensor]:
    """Take the tensors out of a checkpoint, keeping the version numbers that `load_state_dict` migrates by."""
    while isinstance(loaded, Mapping):
        nested = next((loaded[key] for key in NESTING_KEYS if isinstance(loaded.get(key), Mapping)), None)
        if nested is None:
            break
        loaded = nested
    if not isinstance(loaded, Mapping):
        return OrderedDict()
    tensors = OrderedDict((str(name), value) for name, value in loaded.items() if isinstance(value, Tensor))
    versions = getattr(loaded, "_metadata", None)
    if versions is not None:
        tensors._metadata = OrderedDict(versions)  # type: ignore[attr-defined]  # noqa: SLF001 (how torch keeps them)
    for prefix in WRAPPER_PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            consume_prefix_in_state_dict_if_present(tensors, prefix)
    return tensors


def _why_unreadable(error: Exception) -> str:
    if "Unsupported" in str(error) or "weights_only" in str(error) or "Weights only load failed" in str(error):
        return (
            "is no plain weight file: reading it would run code that it carries, or it is damaged; save it anew with "
            "torch.save(model.state_dict(), FILE) or as .safetensors"
        )
    first_line = (str(error).splitlines() or [""])[0]
    return f"cannot be read ({type(error).__name__}: {first_line}); the file is damaged or of another format"


def _three(value: object, where: Path, key: str) -> tuple[float, float, float] | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and all(isinstance(x, int | float) and math.isfinite(x) for x in value)
    if not isinstance(value, list) or not numbers or len(value) != 3 or (key == "std" and min(value) <= 0):  # noqa: PLR2004
        above = " above 0" if key == "std" else ""
        raise WeightsError(f"{where}: {key} {value!r} is not a list of three numbers{above}")
    red, green, blue = (float(number) for number in value)
    return (red, green, blue)
