"""What NVIDIA's driver says of this machine's GPUs, beside what torch sees of them: who uses them, how they are shared.

In: the driver, through its management library (NVML). Out: `Card`s, none where there is no driver. Nothing is started
on a GPU, and nothing is changed.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psutil
import pynvml

MPS_CONTROL: Final = "nvidia-cuda-mps-control"
"""Process of the Multi-Process Service, which lets processes compute on one GPU at the same time."""
EXCLUSIVE: Final = frozenset({pynvml.NVML_COMPUTEMODE_EXCLUSIVE_THREAD, pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS})


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """A part of a GPU that counts as one of its own: of Multi-Instance GPU (MIG)."""

    uuid: str
    """What `CUDA_VISIBLE_DEVICES` names it by."""
    name: str
    memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A GPU, as the driver counts them."""

    index: int
    name: str
    memory_bytes: int
    used_bytes: int | None
    """By whatever process; None where the driver does not say."""
    busy: float | None
    """Part of the last second or so in which it computed, 0 to 1; None where the driver does not say."""
    exclusive: bool
    """Whether one process at a time may use it."""
    sliced: bool
    """Whether MIG is on: processes can use its slices alone then."""
    slices: tuple[Slice, ...]


def find_cards() -> tuple[Card, ...]:
    """Ask the driver for its GPUs; none where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_card(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def mps_runs() -> bool:
    """Return whether the Multi-Process Service runs on this machine."""
    return any(process.info["name"] == MPS_CONTROL for process in psutil.process_iter(["name"]))


def _card(index: int) -> Card:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    used = busy = None
    exclusive = sliced = False
    with suppress(pynvml.NVMLError):  # one that is sliced tells its slices' users alone
        used = int(pynvml.nvmlDeviceGetMemoryInfo(device).used)
    with suppress(pynvml.NVMLError):
        busy = pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
    with suppress(pynvml.NVMLError):
        exclusive = pynvml.nvmlDeviceGetComputeMode(device) in EXCLUSIVE
    with suppress(pynvml.NVMLError):  # most GPUs know no slices
        sliced = pynvml.nvmlDeviceGetMigMode(device)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    return Card(
        index=index,
        name=_text(pynvml.nvmlDeviceGetName(device)),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(device).total),
        used_bytes=used,
        busy=busy,
        exclusive=exclusive,
        sliced=sliced,
        slices=_slices(device) if sliced else (),
    )


def _slices(device: Any) -> tuple[Slice, ...]:  # noqa: ANN401 - a handle of the driver's
    found = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        with suppress(pynvml.NVMLError):  # numbers may be left out
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, number)
            found.append(
                Slice(
                    uuid=_text(pynvml.nvmlDeviceGetUUID(part)),
                    name=_text(pynvml.nvmlDeviceGetName(part)),
                    memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(part).total),
                )
            )
    return tuple(found)


def _text(answer: str | bytes) -> str:
    """Return a text of the driver's, which older versions of its library give as bytes."""
    return answer.decode() if isinstance(answer, bytes) else answer
