"""Two processes that train trials together, without Ray: `python -m tests.training.ranks RUN_DIR PORT RANK COUNT`.

What they train stands in `trials.json` in the run directory, as `raybench.trials.to_json` has it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import TCPStore

from raybench.records import Allocation, EpochRecord, Trial, Verdict
from raybench.training.execute import run
from raybench.trials import from_json, to_json

SECONDS = 300
"""After which processes that do not end are given up."""


class Plain(nn.Module):
    """A small network without BatchNorm and dropout: what it makes of an image does not depend on other images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores."""
        scores: Tensor = self.head(self.body(images).flatten(1))
        return scores


def plain(num_classes: int) -> nn.Module:
    """Return the network that trials name `tests.training.ranks:plain`."""
    return Plain(num_classes)


def train(trials: Sequence[Trial], run_dir: Path, *, workers: int, stop_at: int | None = None) -> None:
    """Train trials, each by so many processes; they stop at an epoch where that is given."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "trials.json").write_text(json.dumps([to_json(trial) for trial in trials]), encoding="utf-8")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # keeps its port for their rendezvous
    command = [sys.executable, "-m", "tests.training.ranks", str(run_dir), str(store.port), str(workers)]
    processes = [subprocess.Popen([*command, str(rank), str(stop_at or "")]) for rank in range(workers)]
    try:
        assert [process.wait(SECONDS) for process in processes] == [0] * workers
    finally:
        for process in processes:
            process.kill()


def main() -> None:
    run_dir, port, workers, rank, stop_at = sys.argv[1:]
    store = TCPStore("127.0.0.1", int(port))
    dist.init_process_group("gloo", store=store, rank=int(rank), world_size=int(workers))
    allocation = Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=1, workers=int(workers), rank=int(rank))

    def on_epoch(record: EpochRecord) -> Verdict:
        assert rank == "0", "the first rank alone decides"
        return Verdict.STOP if stop_at and record.epoch >= int(stop_at) else Verdict.GO_ON

    for data in json.loads((Path(run_dir) / "trials.json").read_text(encoding="utf-8")):
        run(from_json(data), run_dir=Path(run_dir), allocation=allocation, on_epoch=on_epoch)
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
