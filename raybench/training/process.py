"""This process, made ready for a trial and left ready for the next one: threads, determinism, memory.

In: a `Trial` and what it was given of the machine. Out: the device to compute on. One process runs many trials, one
after another.
"""

import ctypes
import gc
import os
from functools import cache

import torch

from raybench.records import Allocation, Trial

CONTEXT_BYTES = 600 * 2**20
"""Of a GPU's memory, that CUDA and its libraries take for each process, and torch does not know."""


def prepare_process(trial: Trial, allocation: Allocation) -> torch.device:
    """Set the threads and determinism of this process for a trial, and return its device."""
    torch.set_num_threads(allocation.threads)
    # Convolutions and matrix products have deterministic versions on CUDA only with this set.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(trial.training.deterministic, warn_only=True)
    # Else each new tensor is filled with NaN, to show who reads one before writing it: 3 to 10 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # It times cuDNN's algorithms and takes the quickest: not the same ones in every run.
    torch.backends.cudnn.benchmark = not trial.training.deterministic
    use_gpu = bool(allocation.gpu_fraction) and torch.cuda.is_available()
    if use_gpu:
        _limit_gpu_memory(allocation.gpu_memory_share)
    return torch.device("cuda" if use_gpu else "cpu")


def _limit_gpu_memory(share: float | None) -> None:
    """Let this process's tensors take that part of the GPU's memory, less what CUDA itself takes for the process."""
    device = torch.cuda.current_device()
    whole = torch.cuda.get_device_properties(device).total_memory
    part = 1.0 if share is None else max(share / 2, share - CONTEXT_BYTES / whole)
    torch.cuda.set_per_process_memory_fraction(min(part, 1.0), device)


def release_memory() -> None:
    """Give memory that is free in this process back to the machine, for its neighbours and the next trial's figures."""
    gc.collect()
    _freeze_once()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    # glibc keeps what was freed; elsewhere, as on macOS, there is no such function.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _freeze_once() -> None:
    # Modules and what they hold are here to stay: going through them takes longer than many a trial's steps, and so
    # does counting what is frozen. Once only, since what is frozen is never collected.
    gc.freeze()
