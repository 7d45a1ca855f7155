"""A model of one's own, copied beside the experiments of these tests, which notes where and when it learns.

In the working directory, `seen/` holds a file for each time that it was begun: a line a batch, with the time and the
GPUs that were given to the trial. While there is a file `hold`, it learns for two epochs, slowly enough for a
checkpoint, and then waits.
"""

import os
import platform
import time
from itertools import count
from pathlib import Path

import torch
from torch import nn

BATCHES_BEFORE_HOLD = 10
"""Two epochs of 50 images in batches of 10."""
BATCH_SECONDS = 0.4
"""Checkpoints are at least a second apart."""
HELD_SECONDS = 400
_numbers = count()


class Slow(nn.Module):
    """Two layers."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, num_classes)
        self.batches = 0
        self.notes = Path("seen") / f"{platform.node()}-{os.getpid()}-{next(_numbers)}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch."""
        if self.training:
            self.batches += 1
            self.hold()
            with self.notes.open("a") as notes:
                notes.write(f"{time.time()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
        logits: torch.Tensor = self.head(self.body(images))
        return logits

    def hold(self) -> None:
        """Be slow where the file is there; after two epochs wait until it is gone."""
        if Path("hold").exists():
            time.sleep(BATCH_SECONDS)
        deadline = time.monotonic() + HELD_SECONDS
        while self.batches > BATCHES_BEFORE_HOLD and Path("hold").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("nobody took the file `hold` away")
            time.sleep(0.05)
