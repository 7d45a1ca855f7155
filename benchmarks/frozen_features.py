"""A linear probe of resnet18: features of its frozen backbone kept, against the same trial without keeping them.

Three sides, each a whole trial of 15 epochs on 833 JPEGs at 64 px, on one thread, in a process that has run a trial
before and with images decoded before:

- without: by hand, with raybench's own network, batches, order and optimizer. All train and val images go through the
  backbone in every epoch, without gradients, and the test images once. It writes nothing to disk.
- first trial: through `execute.run`, into an empty run directory and with no features in the cache.
- later trial: another seed, right after it, as a worker runs one after the other.

The backbone is random, with BatchNorm statistics of the images, since weights cannot be downloaded everywhere: it costs
what a pretrained one costs. The three sides must agree on every epoch's val loss.

    python -m benchmarks.frozen_features
"""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.figures import Figure, publish
from benchmarks.images import photo_folder
from raybench.records import (
    Allocation,
    DatasetSpec,
    EpochRecord,
    ModelSpec,
    Phase,
    Strategy,
    TrainingSettings,
    Trial,
    Verdict,
)
from raybench.training.batches import Preparation, forward_all, training_images, training_order
from raybench.training.data import ImageData, load_images
from raybench.training.execute import run
from raybench.training.freezing import freeze
from raybench.training.models import build_network
from raybench.training.network import Network
from raybench.training.optimization import build_optimizer
from raybench.training.subsets import subset

RUNS = 3
THREADS = 1
"""What a trial gets by default."""
FIRST_AT_LEAST, LATER_AT_LEAST = 8.0, 100.0
SAME_LOSS = 1e-4
"""Most that val losses may differ by."""
ALLOCATION = Allocation(cpu_share=1.0, gpu_fraction=0.0, threads=THREADS)
PROBE = Phase(
    train="head",
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    momentum=0.9,
    schedule="none",
    step_epochs=7,
    step_factor=0.1,
    warmup_epochs=0,
    epochs=15,
    patience=15,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One trial."""

    seconds: float
    cpu_seconds: float
    """Of all threads: what a busy machine changes less."""
    val_losses: list[float]
    """One an epoch."""


def main() -> None:
    """Measure the three sides, run by run."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ["RAYBENCH_CACHE_DIR"] = str(scratch / "cache")
        trial = probe(photo_folder(), scratch / "resnet18.pth")
        images = load_images(trial.dataset)
        write_backbone(trial, images)
        through_raybench(warming_up(trial), scratch / "warm")
        without, first, later = [], [], []
        for number in range(RUNS):
            one, other = (seeded(trial, seed % RUNS) for seed in (number, number + 1))
            shutil.rmtree(scratch / "cache" / "features", ignore_errors=True)
            without.append(by_hand(one, images))
            first.append(through_raybench(one, scratch / f"run-{number}"))
            later.append(through_raybench(other, scratch / f"run-{number}"))
    difference = max(
        abs(kept - computed)
        for ours, theirs in ((first, without), (later, [*without[1:], without[0]]))  # of the same seed
        for one_trial, same_trial in zip(ours, theirs, strict=True)
        for kept, computed in zip(one_trial.val_losses, same_trial.val_losses, strict=True)
    )
    if difference > SAME_LOSS:
        raise RuntimeError(f"val losses differ by {difference:g}; at most {SAME_LOSS:g} is acceptable")
    publish(
        "frozen_features",
        [
            Figure(
                name=f"linear probe, {which} trial",
                unit="seconds a trial",
                ours=[one.seconds for one in ours],
                peer=[one.seconds for one in without],
                peer_name="without kept features",
                more_is_better=False,
                at_least=goal,
                note=f"(val losses differ by {difference:.1g} at most)",
                details={
                    "cpu seconds": [one.cpu_seconds for one in ours],
                    "cpu seconds of the peer": [one.cpu_seconds for one in without],
                },
            )
            for which, ours, goal in (("first", first, FIRST_AT_LEAST), ("later", later, LATER_AT_LEAST))
        ],
        {"largest difference of val losses": difference, "threads": THREADS},
    )


def probe(folder: Path, weights: Path) -> Trial:
    """Return the linear probe that all sides train."""
    return Trial(
        trial_id="0" * 12,
        dataset=DatasetSpec(
            name="photos",
            source=f"imagefolder:{folder}",
            root=None,
            image_size=64,
            val_size=None,
            on_bad_image="error",
        ),
        train_size=833,
        model=ModelSpec(name="resnet18", head=None),
        weights=str(weights),
        strategy=Strategy(name="linear-probe", augmentation="none", phases=(PROBE,)),
        training=TrainingSettings(
            batch_size=32, label_smoothing=0.0, class_weights="none", precision="float32", deterministic=True
        ),
        seed=0,
    )


def seeded(trial: Trial, seed: int) -> Trial:
    """Return the trial with another seed."""
    return replace(trial, seed=seed, trial_id=f"{seed:012x}")


def warming_up(trial: Trial) -> Trial:
    """Return a small trial on the same images: what a process does once is not what a trial costs."""
    phase = replace(PROBE, epochs=1, patience=1)
    strategy = replace(trial.strategy, phases=(phase,))
    return replace(trial, model=ModelSpec(name="resnet8", head=None), weights="random", strategy=strategy)


def write_backbone(trial: Trial, images: ImageData) -> None:
    """Write the weight file, as torch hub keeps ImageNet's: random weights, and BatchNorm statistics of real images."""
    network = built(replace(trial, weights="random"), images)
    for part in network.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    network.module.train()
    with torch.no_grad():
        network.module(prepared(network, trial).evaluation(images.train.images[:256]))
    torch.save(network.module.state_dict(), trial.weights)


def through_raybench(trial: Trial, run_dir: Path) -> Measured:
    """Run the trial as a worker does."""
    losses: list[float] = []

    def on_epoch(record: EpochRecord) -> Verdict:
        losses.append(record.val_loss)
        return Verdict.GO_ON

    started, cpu_started = time.perf_counter(), time.process_time()
    run(trial, run_dir=run_dir, allocation=ALLOCATION, on_epoch=on_epoch)
    return Measured(
        seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu_started, val_losses=losses
    )


def by_hand(trial: Trial, images: ImageData) -> Measured:
    """Train the trial's head with the whole network in every step, and score the best epoch on the test split."""
    started, cpu_started = time.perf_counter(), time.process_time()
    network = built(trial, images)
    preparation, positions = prepared(network, trial), subset(images.train.labels, trial.train_size, trial.seed)
    batches, labels = training_images(images.train, positions, preparation), torch.from_numpy(images.train.labels)
    optimizer = build_optimizer(PROBE, freeze(network, "head"))  # the backbone keeps nothing for a backward pass
    network.module.eval()
    losses: list[float] = []
    best = {}
    for epoch in range(1, PROBE.epochs + 1):
        for places in training_order(trial.train_size, trial.training.batch_size, trial.seed, epoch):
            scores = network.module(batches.batch(places, preparation.generator(epoch)))
            optimizer.zero_grad()
            functional.cross_entropy(scores, labels[positions[places]]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        scores = forward_all(network.module, images.val, preparation)
        losses.append(functional.cross_entropy(scores, torch.from_numpy(images.val.labels)).item())
        if losses[-1] == min(losses):
            best = {name: tensor.clone() for name, tensor in network.head.state_dict().items()}
    network.head.load_state_dict(best)
    if images.test is not None:
        forward_all(network.module, images.test, preparation)
    return Measured(
        seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu_started, val_losses=losses
    )


def built(trial: Trial, images: ImageData) -> Network:
    """Return the network that the trial begins with."""
    return build_network(
        trial.model,
        trial.weights,
        num_classes=len(images.classes),
        image_size=trial.dataset.image_size,
        seed=trial.seed,
    )


def prepared(network: Network, trial: Trial) -> Preparation:
    """Return how the trial's images become what the network takes."""
    return Preparation(
        mean=network.mean,
        std=network.std,
        device=torch.device("cpu"),
        policy=trial.strategy.augmentation,
        seed=trial.seed,
    )


if __name__ == "__main__":
    main()
