"""Peak memory of one trial, in a process that may run many one after another."""

import torch

from raybench.process_memory import memory_watch


class PeakMemory:
    """Measures from its creation on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        memory_watch().reset()

    def peak_bytes(self) -> int:
        """Return the peak of memory allocated on the GPU, or taken by the process itself on the CPU, in bytes."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return self.host_peak_bytes()

    def host_peak_bytes(self) -> int:
        """Return the peak of what the process itself took of the machine's memory; see `raybench.process_memory`."""
        return memory_watch().peak_bytes()
