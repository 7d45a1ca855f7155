"""The experiment that is disturbed: 24 short trials of networks of one's own, which count the batches they learn."""

from pathlib import Path

EXPERIMENT = """
name: chaos
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [64], augmentation: flip}]
models: ["chaos_networks:Narrow", "chaos_networks:Wide"]
strategies: [fine-tune, fine-tune+augment]
seeds: [0, 1, 2, 3, 4, 5]
training: {epochs: 6, patience: 6, batch_size: 8}
scheduler: none
resources: {measure: false, cpu: 1}
"""
ASHA = "scheduler={asha: {grace_period: 2, reduction_factor: 2}}"
BATCHES = 8
"""Of an epoch."""
TRIALS = 24
NETWORKS = '''
"""Networks that take their time, and leave a byte in a file for each batch that they learn."""

import os
import time

from torch import nn

LOG = os.environ["CHAOS_LOG"]


class Narrow(nn.Module):
    width = 8

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, self.width), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(self.width, num_classes)

    def forward(self, images):
        if self.training:
            time.sleep(0.02)
            descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, b".")
            os.close(descriptor)
        return self.head(self.body(images))


class Wide(Narrow):
    width = 32
'''


def write_material(folder: Path) -> None:
    """Write the experiment and its networks."""
    (folder / "chaos.yaml").write_text(EXPERIMENT)
    (folder / "chaos_networks.py").write_text(NETWORKS)
