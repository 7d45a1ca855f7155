"""How fast images reach the training loop: raybench's decoded cache against a DataLoader over an image folder.

Both sides give what a training step takes: shuffled, normalised float batches of 32 on the CPU. Ours come out of the
very code that trials use (`training_images`, `training_order`), on one thread, which is what a trial gets by default.
The peer is torchvision's ImageFolder in a DataLoader with two worker processes, which persist; after an epoch to warm
up, whole epochs count. Its augmentation is the default policy in torchvision's words: each of its transforms does what
a part of ours does. Decoding once, which ours did before, is in the details: it is paid once a machine. Both sides keep
freed memory, as processes of a run do.

    python -m benchmarks.data_pipeline
"""

import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.figures import Figure, publish
from benchmarks.images import FOLDER, photo_folder
from raybench.records import DatasetSpec
from raybench.scheduling.cluster import MEMORY_ENVIRONMENT
from raybench.training.batches import Preparation, training_images, training_order
from raybench.training.data import ImageData, load_images
from raybench.training.draws import AREA, ASPECT, BLUR, BLUR_SHARE, COLOUR, MAX_ROTATION

WORKERS = 2
BATCH_SIZE = 32
RUNS = 3
THREADS = 1
SECONDS = 0.5
"""Ours is measured for at least as long, in whole epochs."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GOALS = {(64, "none"): 50.0, (224, "none"): 8.0, (64, "default"): 4.0, (224, "default"): 1.5}
"""Ratio asked for, by side in pixels and policy."""


def main() -> None:
    """Measure both sides, run by run, at each size and policy."""
    keep_freed_memory()
    torch.set_num_threads(THREADS)
    folder = photo_folder()
    figures, decoding = [], {}
    for (side, policy), goal in GOALS.items():
        started = time.perf_counter()
        images = decoded(folder, side)
        decoding[f"{side} px, {policy}: seconds to open or decode"] = time.perf_counter() - started
        loader = by_hand(folder, side, policy)
        for _ in loader:  # the first epoch starts the workers
            pass
        ours, last, peer = [], [], []
        for _ in range(RUNS):
            ours.append(our_speed(images, policy, channels_last=False))
            last.append(our_speed(images, policy, channels_last=True))
            peer.append(peer_speed(loader))
        figures.append(
            Figure(
                name=f"{side} px, {'no augmentation' if policy == 'none' else 'default augmentation'}",
                unit="images/s",
                ours=ours,
                peer=peer,
                peer_name=f"DataLoader(ImageFolder), {WORKERS} workers",
                more_is_better=True,
                at_least=goal,
                note=f"ours on {THREADS} thread",
                details={"ours, channels last": last},
            )
        )
    publish("data_pipeline", figures, decoding)


def keep_freed_memory() -> None:
    """Begin again, as a process that glibc serves as it serves a run's: it reads how when a process starts."""
    if not MEMORY_ENVIRONMENT.items() <= os.environ.items():
        command = [sys.executable, "-m", "benchmarks.data_pipeline", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **MEMORY_ENVIRONMENT})  # noqa: S606 - ourselves


def decoded(folder: Path, side: int) -> ImageData:
    """Return the folder's images as trials open them."""
    spec = DatasetSpec(
        name="photos",
        source=f"imagefolder:{folder}",
        root=None,
        image_size=side,
        val_size=None,
        on_bad_image="error",
    )
    return load_images(spec, with_base=True, cache_dir=FOLDER / "cache")


def our_speed(images: ImageData, policy: str, *, channels_last: bool) -> float:
    """Return images a second over whole epochs."""
    preparation = Preparation(
        mean=MEAN, std=STD, device=torch.device("cpu"), policy=policy, seed=0, channels_last=channels_last
    )
    subset = torch.arange(len(images.train)).numpy()
    source = training_images(images.train, subset, preparation)
    epoch, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        epoch += 1
        generator = preparation.generator(epoch)
        for places in training_order(len(subset), BATCH_SIZE, preparation.seed, epoch):
            source.batch(places, generator)
    return epoch * len(subset) / (time.perf_counter() - started)


def peer_speed(loader: "DataLoader[tuple[torch.Tensor, torch.Tensor]]") -> float:
    """Return images a second over one epoch."""
    started = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    return images / (time.perf_counter() - started)


def by_hand(folder: Path, side: int, policy: str) -> "DataLoader[tuple[torch.Tensor, torch.Tensor]]":
    """Return what a user writes."""
    geometry = [v2.Resize((side, side))] if policy == "none" else list(augmentation(side))
    transform = v2.Compose([*geometry, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    return DataLoader(
        ImageFolder(folder / "train", transform=transform),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )


def augmentation(side: int) -> Iterator[v2.Transform]:
    """Yield the default policy as torchvision's transforms, on Pillow images: that was the quickest way to run them."""
    yield v2.RandomResizedCrop(side, scale=AREA, ratio=ASPECT)
    yield v2.RandomRotation(math.degrees(MAX_ROTATION), v2.InterpolationMode.BILINEAR)
    yield v2.RandomHorizontalFlip()
    yield v2.ColorJitter(brightness=COLOUR, contrast=COLOUR, saturation=COLOUR)
    deviations = tuple(share * side for share in BLUR)
    taps = 2 * math.ceil(3 * deviations[1]) + 1
    yield v2.RandomApply([v2.GaussianBlur(taps, deviations)], BLUR_SHARE)


if __name__ == "__main__":
    main()
