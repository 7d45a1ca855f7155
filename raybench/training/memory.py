"""Peak memory of one trial, in a process that may run many one after another."""

import contextlib
import resource
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs, sets the peak resident size back to the current one (Linux, proc(5))."""


class PeakMemory:
    """Measures from its creation on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            # Where it cannot be reset, the peak is that of the process so far: an upper bound.
            with contextlib.suppress(OSError):
                _RESET.write_text(_RESET_PEAK)

    def peak_bytes(self) -> int:
        """Return the peak of memory allocated on the GPU, or resident on the CPU, in bytes."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        with contextlib.suppress(OSError, StopIteration):
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
