"""Architectures by name: a `ModelSpec` in, an untrained torch module out (with its original head).

| name | where from |
| --- | --- |
| resnet8, resnet20, resnet32, resnet56 | `raybench.training.cifar_resnet` |
| a torchvision classification model | `torchvision.models`, without auxiliary classifiers |
| `timm:NAME` | the timm package, if installed |
| `package.module:callable` | called by keyword only: `num_classes` where it takes it |

Every builder draws from torch's global generator: seed it around the call.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from raybench.errors import ModelError
from raybench.records import ModelSpec
from raybench.training.cifar_resnet import BLOCKS_PER_STAGE, cifar_resnet

Kind = Literal["cifar", "torchvision", "timm", "callable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """Per channel (red, green, blue), for images in 0..1: (image - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET_NORMALISATION: Final = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

OTHER_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    # Auxiliary classifiers would make the training output a named tuple and would learn beside the head.
    "googlenet": {"aux_logits": False, "transform_input": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "transform_input": False, "init_weights": True},
}
"""Arguments of torchvision builders that differ from their defaults."""

OTHER_NORMALISATIONS: Final = {
    # Their published weights are used with transform_input=True, which turns ImageNet's normalisation into this one.
    "googlenet": Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "inception_v3": Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
"""Normalisations of torchvision models that differ from what their weights' transforms say."""


class _ParametersOnMeta(TorchFunctionMode):
    """Lets layers make their parameters on the meta device: no memory, no time.

    Narrower than `torch.device("meta")`, under which RegNet and Swin cannot compute their own widths. Initialisers are
    left out: on meta they do nothing, but take their time to.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (whatever torch's function returns)
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        elif func in _INITIALISERS:
            tensor: Tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


_INITIALISERS: Final[frozenset[Callable[..., Any]]] = frozenset(
    {
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
    }
)
"""What fills most parameters with random numbers."""


def model_kind(spec: ModelSpec) -> Kind:
    """Say where the model comes from; raises ModelError with the nearest known names where it is unknown."""
    name = spec.name
    if name.startswith("timm:"):
        return "timm"
    if ":" in name:
        return "callable"
    if name in BLOCKS_PER_STAGE:
        return "cifar"
    if name in torchvision_names():
        return "torchvision"
    raise ModelError(
        f"unknown model {name!r};{_nearest(name, known_names())} give a torchvision "
        f"classification model, one of {', '.join(BLOCKS_PER_STAGE)}, timm:NAME or package.module:callable"
    )


def torchvision_names() -> list[str]:
    """Names of torchvision's classification models, sorted."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def known_names() -> list[str]:
    """Return the models that need no package or file of one's own: the CIFAR ResNets, then torchvision's, sorted."""
    return [*BLOCKS_PER_STAGE, *torchvision_names()]


def build_architecture(
    spec: ModelSpec,
    *,
    num_classes: int,
    image_size: int,
    pretrained: bool = False,
    skeleton: bool = False,
    unset: bool = False,
) -> nn.Module:
    """Build the model on the CPU in float32, with its original head.

    `pretrained` is for timm alone, which loads its weights while it builds. `skeleton` puts all tensors on the meta
    device, where the kind allows it (torchvision and the CIFAR ResNets): shapes without numbers. `unset` leaves
    parameters of those kinds as their memory happens to be, for whoever fills every one of them: drawing random numbers
    takes longer than reading a weight file.

    Raises ModelError for unknown names, a missing timm, and callables that cannot be imported or called. An
    `image_size` that the architecture refuses raises whatever the library raises.
    """
    kind = model_kind(spec)
    if kind == "timm":
        return _build_timm(spec.name, num_classes=num_classes, image_size=image_size, pretrained=pretrained)
    if kind == "callable":
        return _build_callable(spec.name, num_classes=num_classes)
    if not (skeleton or unset):
        return _build_known(kind, spec.name, image_size)
    with _ParametersOnMeta():
        module = _build_known(kind, spec.name, image_size)
    if skeleton:
        return module.to("meta")
    with torch.no_grad():
        module._apply(_in_memory)  # type: ignore[no-untyped-call] # noqa: SLF001 (to_empty would lose the buffers' numbers)
    return module


def normalisation_of(spec: ModelSpec) -> Normalisation:
    """Return what images are normalised with where the weights say nothing else."""
    kind = model_kind(spec)
    if kind == "torchvision":
        transforms = next(iter(torchvision.models.get_model_weights(spec.name))).transforms()
        return OTHER_NORMALISATIONS.get(
            spec.name, Normalisation(mean=tuple(transforms.mean), std=tuple(transforms.std))
        )
    if kind == "timm":
        settings = _timm_settings(spec.name)
        return Normalisation(mean=tuple(settings["mean"]), std=tuple(settings["std"]))
    return IMAGENET_NORMALISATION


def usual_image_size(spec: ModelSpec) -> int:
    """Return the side in pixels that the architecture was published with; 224 for callables, which do not say."""
    kind = model_kind(spec)
    if kind == "cifar":
        return 32
    if kind == "torchvision":
        return int(next(iter(torchvision.models.get_model_weights(spec.name))).transforms().crop_size[0])
    if kind == "timm":
        return int(_timm_settings(spec.name)["input_size"][-1])
    return 224


def depends_on_image_size(spec: ModelSpec) -> bool:
    """Whether the module differs between image sizes, so that it must be built anew for another one."""
    return spec.name.startswith(("vit_", "maxvit_", "timm:"))


def import_timm(name: str) -> ModuleType:
    """Import timm, an optional dependency; raises ModelError that says what to install."""
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise ModelError(
            f"{name}: the timm package is not installed; run pip install 'raybench[timm]', or name a torchvision model"
        ) from None


def _in_memory(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor


def _build_known(kind: Kind, name: str, image_size: int) -> nn.Module:
    if kind == "cifar":
        return cifar_resnet(name)
    arguments = dict(OTHER_ARGUMENTS.get(name, {}))
    if name.startswith("vit_"):
        arguments["image_size"] = image_size
    elif name.startswith("maxvit_"):
        arguments["input_size"] = (image_size, image_size)
    module: nn.Module = torchvision.models.get_model(name, weights=None, **arguments)
    return module


def _build_timm(name: str, *, num_classes: int, image_size: int, pretrained: bool) -> nn.Module:
    timm = import_timm(name)
    arguments = {"img_size": image_size} if _timm_settings(name).get("fixed_input_size") else {}
    module: nn.Module = timm.create_model(
        name.removeprefix("timm:"), pretrained=pretrained, num_classes=num_classes, **arguments
    )
    return module


def timm_head(module: nn.Module) -> str | None:
    """Return the head's name that a timm model states, or None where it states none or several."""
    name = getattr(module, "pretrained_cfg", {}).get("classifier")
    return name if isinstance(name, str) else None


def _timm_settings(name: str) -> dict[str, Any]:
    timm = import_timm(name)
    short = name.removeprefix("timm:")
    if not timm.is_model(short):
        raise ModelError(f"unknown timm model {short!r};{_nearest(short, timm.list_models())} see timm.list_models()")
    try:
        settings = timm.get_pretrained_cfg(short)
    except RuntimeError:  # the model is known, its tag is not
        tags = timm.list_pretrained(f"{short.split('.')[0]}.*")
        raise ModelError(f"{name}: unknown tag; give one of {', '.join(tags)}") from None
    if settings is None:
        return {"mean": IMAGENET_NORMALISATION.mean, "std": IMAGENET_NORMALISATION.std, "input_size": (3, 224, 224)}
    return {**settings.to_dict(), "fixed_input_size": settings.fixed_input_size}


def _build_callable(name: str, *, num_classes: int) -> nn.Module:
    builder = _import_callable(name)
    arguments = {"num_classes": num_classes} if _takes(builder, "num_classes") else {}
    try:
        module = builder(**arguments)
    except Exception as error:  # somebody else's code may raise anything
        called_with = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise ModelError(f"{name}: calling it as ({called_with}) failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name}: returned a {type(module).__name__}; a torch.nn.Module is needed")
    return module.to("cpu", torch.float32)


def _import_callable(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModelError(f"{name}: {error}; is its folder on PYTHONPATH?") from error
    except Exception as error:  # importing runs somebody else's code
        raise ModelError(f"{name}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{name}: {module_name} has no {attribute!r};{_nearest(part, dir(found))} check its name")
        found = getattr(found, part)
    if not callable(found):
        raise ModelError(f"{name}: is a {type(found).__name__}; a callable that returns a torch.nn.Module is needed")
    return found  # type: ignore[no-any-return]


def _takes(builder: Callable[..., Any], keyword: str) -> bool:
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):  # builtins do not tell
        return False
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return True
    named = parameters.get(keyword)
    return named is not None and named.kind in {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f" did you mean {' or '.join(close)}?" if close else ""
