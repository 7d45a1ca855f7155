"""What works on this machine and what does not: Python, packages, GPUs, weights, data, disk and memory.

In: this machine. Out: a list of `Check`, for a table. Nothing is changed, downloaded or started; Ray is looked up,
not run. A failed check means that the quickstart cannot run; a warning, that something else cannot, or only slowly.
"""

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.table import Table
from rich.text import Text

from raybench.cache import cache_root
from raybench.formats import number_of
from raybench.nvidia import Card, find_cards, mps_runs

if TYPE_CHECKING:
    from raybench.training.devices import Devices

GIGABYTE = 10**9
LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 1 * GIGABYTE
"""The quickstart needs less; below it, files of others soon fill the disk."""
COMFORTABLE_DISK_BYTES = 10 * GIGABYTE
"""Decoded images and checkpoints of a study of some ten thousand images."""
RAY_DISK_SHARE = 0.95
"""Of a file system in use: above it Ray spills no objects (its `local_fs_capacity_threshold`)."""
LEAST_SHARED_MEMORY_BYTES = 1 * GIGABYTE
"""Docker's default of 64 MB makes Ray keep its objects on disk."""
LEAST_MEMORY_BYTES = 4 * GIGABYTE
"""The driver, Ray and two trials, each with torch loaded, take about this much."""
IDLE_SHARE = 0.1
"""Of a GPU's memory in use, or of its time: below it nobody else is taken to work there."""
EXTRAS = {
    "timm": ("timm", "models timm:NAME"),
    "datasets": ("huggingface", "datasets huggingface:NAME"),
    "onnx": ("onnx", "export to ONNX"),
}
"""Optional packages: the extra that installs each, and what it is for."""
PACKAGED = ("resnet8", "resnet20")


class Level(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    level: Level
    detail: str
    """What was seen."""
    advice: str = ""
    """What to do about it; empty where nothing needs doing."""


def can_run_quickstart(checks: Iterable[Check]) -> bool:
    """Tell whether nothing failed."""
    return all(check.level is not Level.FAIL for check in checks)


def check_python(version: Sequence[int]) -> Check:
    """Look at the version of Python, such as `sys.version_info[:3]`."""
    if tuple(version[:2]) >= LEAST_PYTHON:
        return Check(name="Python", level=Level.OK, detail=_dotted(version))
    least = _dotted(LEAST_PYTHON)
    return Check(name="Python", level=Level.FAIL, detail=_dotted(version), advice=f"install Python {least} or later")


def check_packages(versions: Mapping[str, str | None]) -> Check:
    """Look at the packages that raybench needs; None is the version of one that is not there."""
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Check(
            name="Packages",
            level=Level.FAIL,
            detail=f"not installed: {', '.join(missing)}",
            advice="python -m pip install --upgrade raybench",
        )
    return Check(
        name="Packages", level=Level.OK, detail=", ".join(f"{name} {version}" for name, version in versions.items())
    )


def check_extras(versions: Mapping[str, str | None]) -> list[Check]:
    """Look at the optional packages, by name."""
    checks = []
    for name, (extra, purpose) in EXTRAS.items():
        version = versions.get(name)
        if version is None:
            advice = f"for {purpose}: python -m pip install 'raybench[{extra}]'"
            checks.append(Check(name=f"Extra {extra}", level=Level.WARN, detail="not installed", advice=advice))
        else:
            checks.append(Check(name=f"Extra {extra}", level=Level.OK, detail=f"{name} {version}, for {purpose}"))
    return checks


def check_gpus(devices: "Devices") -> Check:
    """Look at what torch can train on."""
    if devices.gpus:
        counted = Counter(f"{gpu.name} ({_size(gpu.memory_bytes)})" for gpu in devices.gpus)
        names = [name if count == 1 else f"{count} x {name}" for name, count in counted.items()]
        seen = ", ".join(names) + ("; a run uses all of them" if len(devices.gpus) > 1 else "")
        return Check(name="GPUs", level=Level.OK, detail=seen)
    build = f"torch {devices.torch_version}"
    if devices.cuda_version is None:
        advice = "to train on a GPU, install a torch that is built for it"
        return Check(name="GPUs", level=Level.WARN, detail=f"none: {build} is built for CPUs", advice=advice)
    return Check(
        name="GPUs",
        level=Level.WARN,
        detail=f"none that {build} (CUDA {devices.cuda_version}) can use; trials run on CPU cores",
        advice="where there is one, see what nvidia-smi says",
    )


def check_card(card: Card, visible: str | None) -> Check:
    """Look at one GPU as the driver tells of it; `visible` is what `CUDA_VISIBLE_DEVICES` says."""
    name = f"GPU {card.index}"
    if card.sliced:
        return _check_slices(name, card, visible or "")
    use = [f"{card.used_bytes / card.memory_bytes:.0%} of its memory in use"] if card.used_bytes is not None else []
    use += [f"{card.busy:.0%} busy"] if card.busy is not None else []
    detail = ", ".join([f"{card.name} ({_size(card.memory_bytes)})", *use])
    if card.exclusive:
        advice = (
            "takes one process at a time, so trials cannot share it: give each whole GPUs (resources: {gpu: 1}), or "
            f"lift that with 'sudo nvidia-smi -i {card.index} -c DEFAULT'"
        )
        return Check(name=name, level=Level.WARN, detail=detail, advice=advice)
    if (card.used_bytes or 0) > IDLE_SHARE * card.memory_bytes or (card.busy or 0) > IDLE_SHARE:
        advice = (
            "somebody uses it: what is measured here is what they leave; CUDA_VISIBLE_DEVICES with the numbers of the "
            "other GPUs leaves it out"
        )
        return Check(name=name, level=Level.WARN, detail=detail, advice=advice)
    return Check(name=name, level=Level.OK, detail=detail)


def _check_slices(name: str, card: Card, visible: str) -> Check:
    """Look at a GPU that MIG has cut into slices, each of which can count as a GPU."""
    sizes = ", ".join(f"{part.name} ({_size(part.memory_bytes)})" for part in card.slices) or "none made yet"
    detail = f"{card.name}, MIG is on, slices: {sizes}"
    if not card.slices:
        advice = "make slices with 'sudo nvidia-smi mig -cgi ... -C', or turn MIG off: no process can use the whole"
        return Check(name=name, level=Level.WARN, detail=detail, advice=advice)
    if any(part.uuid in visible for part in card.slices):
        return Check(name=name, level=Level.OK, detail=f"{detail}; those in CUDA_VISIBLE_DEVICES are used")
    advice = (
        f"name the slices, and count them, so that each is a GPU: CUDA_VISIBLE_DEVICES="
        f"{','.join(part.uuid for part in card.slices)} raybench run FILE --num-gpus {len(card.slices)}"
    )
    return Check(name=name, level=Level.WARN, detail=detail, advice=advice)


def check_sharing(gpus: int, cores: int, *, mps: bool) -> Check:
    """Say when trials that share one of some GPUs may not pay."""
    if cores < 2 * gpus:
        advice = "trials that share a GPU would have less than a core each to prepare images: give them whole GPUs"
        detail = f"{number_of(cores, 'CPU core')} for {number_of(gpus, 'GPU')}"
        return Check(name="Sharing GPUs", level=Level.WARN, detail=detail, advice=advice)
    if mps:
        detail = "MPS runs: trials on one GPU compute at the same time, as far as they leave room for one another"
    else:
        detail = (
            "no MPS runs, so trials on one GPU take turns: that pays only where one alone leaves it idle, as small "
            "models and images do, which 'gpu: auto' measures"
        )
    return Check(name="Sharing GPUs", level=Level.OK, detail=detail)


def check_processors(cores: int, memory_bytes: int, available_bytes: int) -> Check:
    """Look at CPU cores and main memory."""
    detail = f"{cores} CPU cores, {_size(memory_bytes)} of memory, {_size(available_bytes)} of it available"
    if available_bytes >= LEAST_MEMORY_BYTES:
        return Check(name="Processors", level=Level.OK, detail=detail)
    advice = "end other programs, or run fewer trials at once with --num-cpus 1"
    return Check(name="Processors", level=Level.WARN, detail=detail, advice=advice)


def check_disk(name: str, path: Path, *, free_bytes: int, writable: bool) -> Check:
    """Look at a folder that is written to."""
    detail = f"{_size(free_bytes)} free in {path}"
    if not writable:
        advice = "choose a folder that you may write to"
        return Check(name=name, level=Level.FAIL, detail=f"{path} cannot be written to", advice=advice)
    if free_bytes < LEAST_DISK_BYTES:
        return Check(name=name, level=Level.FAIL, detail=detail, advice=f"free at least {_size(LEAST_DISK_BYTES)}")
    if free_bytes < COMFORTABLE_DISK_BYTES:
        advice = f"enough for the quickstart; larger studies want {_size(COMFORTABLE_DISK_BYTES)}"
        return Check(name=name, level=Level.WARN, detail=detail, advice=advice)
    return Check(name=name, level=Level.OK, detail=detail)


def check_ray_disk(path: Path, *, used_share: float) -> Check:
    """Look at how full the file system of Ray's temporary files is, as a fraction."""
    detail = f"{path} is {used_share:.0%} full"
    if used_share < RAY_DISK_SHARE:
        return Check(name="Disk for Ray", level=Level.OK, detail=detail)
    advice = f"Ray writes nothing more above {RAY_DISK_SHARE:.0%}: free some, or set TMPDIR to a folder on another disk"
    return Check(name="Disk for Ray", level=Level.WARN, detail=detail, advice=advice)


def check_shared_memory(total_bytes: int | None) -> Check:
    """Look at /dev/shm; None where there is none, as on macOS."""
    if total_bytes is None:
        return Check(name="Shared memory", level=Level.OK, detail="no /dev/shm here; Ray does without")
    detail = f"{_size(total_bytes)} in /dev/shm"
    if total_bytes >= LEAST_SHARED_MEMORY_BYTES:
        return Check(name="Shared memory", level=Level.OK, detail=detail)
    advice = "Ray falls back to the disk, slowly; in a container: docker run --shm-size=2g"
    return Check(name="Shared memory", level=Level.WARN, detail=detail, advice=advice)


def check_packaged_weights(folder: Path) -> Check:
    """Look at the weights that raybench itself ships."""
    names = [f"{model}{suffix}" for model in PACKAGED for suffix in (".safetensors", ".json")]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        return Check(
            name="Packaged weights",
            level=Level.FAIL,
            detail=f"missing: {', '.join(missing)}",
            advice="reinstall raybench, or make them with experiments/pretrain-embedded.yaml",
        )
    return Check(name="Packaged weights", level=Level.OK, detail=", ".join(PACKAGED))


def check_downloaded_weights(files: Sequence[Path]) -> Check:
    """Look at torch hub's cache; `files` are the weight files in it."""
    name = "Downloaded weights"
    if files:
        return Check(name=name, level=Level.OK, detail=", ".join(file.name for file in files))
    advice = "`weights: imagenet` downloads on first use; without a network use random, packaged or a file"
    return Check(name=name, level=Level.WARN, detail="none in torch hub's cache", advice=advice)


def check_fashion_mnist(folder: Path | None) -> Check:
    """Look at Debian's copy of Fashion-MNIST; None where it is not installed."""
    if folder is not None:
        return Check(name="Fashion-MNIST", level=Level.OK, detail=f"in {folder}")
    advice = "apt install dataset-fashion-mnist, or let torchvision download it to the dataset's root"
    return Check(name="Fashion-MNIST", level=Level.WARN, detail="Debian's package is not installed", advice=advice)


def check_digits(load: Callable[[], int]) -> Check:
    """Look at scikit-learn's digits; `load` returns how many there are."""
    try:
        return Check(name="Digits", level=Level.OK, detail=f"{load()} images, in scikit-learn")
    except (ImportError, OSError) as error:
        return Check(name="Digits", level=Level.FAIL, detail=str(error), advice="reinstall scikit-learn")


def diagnose(folder: Path | None = None) -> list[Check]:
    """Look at everything on this machine; runs would be written below `folder`, by default the current one."""
    temporary = Path(tempfile.gettempdir())
    usage = shutil.disk_usage(temporary)
    memory = psutil.virtual_memory()
    return [
        check_python(sys.version_info[:3]),
        check_packages({name: _version(name) for name in _required_packages()}),
        *_training_checks(),
        *_card_checks(),
        check_processors(os.cpu_count() or 1, memory.total, memory.available),
        check_digits(_count_digits),
        check_packaged_weights(Path(str(resources.files("raybench") / "weights"))),
        *(
            _check_folder(name, path)
            for name, path in (("Disk for runs", folder or Path.cwd()), ("Disk for images", cache_root()))
        ),
        check_ray_disk(temporary, used_share=usage.used / usage.total),
        check_shared_memory(_shared_memory_bytes()),
        *check_extras({name: _version(name) for name in EXTRAS}),
    ]


def render(checks: Iterable[Check]) -> Table:
    """Return the checks as a table: what was seen, and below it what to do."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    styles = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    for check in checks:
        seen = Text(check.detail)
        if check.advice:
            seen.append(f"\n-> {check.advice}", style="dim")
        table.add_row(Text(check.level.value, style=styles[check.level]), Text(check.name), seen)
    return table


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / GIGABYTE:.1f} GB"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _required_packages() -> list[str]:
    """Return the names of raybench's own requirements, extras left out."""
    requirements = importlib.metadata.requires("raybench") or []
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in requirements if "extra ==" not in line]
    return [match.group() for match in names if match]


def _training_checks() -> list[Check]:
    """Ask torch; that it cannot be imported is a finding, so the import stands here."""
    try:
        from raybench.training.devices import downloaded_weights, find_devices  # noqa: PLC0415 - torch may be broken
        from raybench.training.sources.torchvision_sets import debian_fashion_mnist  # noqa: PLC0415 - likewise
    except (ImportError, OSError, RuntimeError) as error:
        advice = "reinstall torch and torchvision, in versions that fit each other"
        return [Check(name="torch", level=Level.FAIL, detail=f"cannot be imported: {error}", advice=advice)]
    return [
        check_gpus(find_devices()),
        check_downloaded_weights(downloaded_weights()),
        check_fashion_mnist(debian_fashion_mnist()),
    ]


def _card_checks() -> list[Check]:
    """Ask NVIDIA's driver, where there is one."""
    cards = find_cards()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    checks = [check_card(card, visible) for card in cards]
    if cards:
        parts = sum(max(1, len(card.slices)) for card in cards)
        checks.append(check_sharing(parts, os.cpu_count() or 1, mps=mps_runs()))
    return checks


def _count_digits() -> int:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a broken scikit-learn is a finding

    return len(load_digits().target)


def _check_folder(name: str, path: Path) -> Check:
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    return check_disk(name, path, free_bytes=free, writable=os.access(existing, os.W_OK))


def _shared_memory_bytes() -> int | None:
    folder = Path("/dev/shm")  # noqa: S108 - its size is looked at, nothing is written
    return shutil.disk_usage(folder).total if folder.is_dir() else None
