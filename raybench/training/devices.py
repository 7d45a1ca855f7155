"""What torch finds on this machine: GPUs, its own version, the folder of downloaded weights."""

from dataclasses import dataclass
from pathlib import Path

import torch

WEIGHT_FILES = ("*.pth", "*.pt", "*.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU as torch sees it."""

    name: str
    memory_bytes: int
    """In all, free or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Devices:
    """What torch can train on here."""

    torch_version: str
    cuda_version: str | None
    """That torch was built with; None for a build without CUDA."""
    gpus: tuple[Gpu, ...]
    cpu_threads: int


def find_devices() -> Devices:
    """Ask torch what there is. Starts nothing on a GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    properties = [torch.cuda.get_device_properties(index) for index in range(count)]
    return Devices(
        torch_version=torch.__version__,
        cuda_version=torch.version.cuda,
        gpus=tuple(Gpu(name=gpu.name, memory_bytes=gpu.total_memory) for gpu in properties),
        cpu_threads=torch.get_num_threads(),
    )


def downloaded_weights() -> tuple[Path, ...]:
    """Return the weight files in torch hub's cache, in alphabetical order."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return tuple(sorted(path for pattern in WEIGHT_FILES for path in folder.glob(pattern)))
