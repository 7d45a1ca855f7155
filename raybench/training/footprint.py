"""How much memory a trial will take: a short one like it is trained over noise, and its peak kept.

In: a `Trial` and how its steps are computed. Out: a `Footprint`. The process should have run nothing else before.

The short trial has the phases of the real one, two epochs of two batches each (from the second epoch on, the best one's
weights are kept beside the others), a batch of val and one of test images, and writes what it learned. Where batches as
large as the trial's would take too long, two smaller ones are tried: what a batch adds grows with its images.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from raybench.records import Footprint, Trial, Tuning
from raybench.training.alone import noise_pixels
from raybench.training.augment import crops
from raybench.training.batches import evaluation_batch
from raybench.training.data import ImageData, ImageSplit
from raybench.training.draws import base_size
from raybench.training.loop import DivergedError, Training
from raybench.training.memory import PeakMemory
from raybench.training.process import release_memory
from raybench.training.weight_files import write_tensors

CLASSES = 10
EPOCHS = 2
BATCHES = 2
SMALLEST_BATCH = 2
"""BatchNorm has no variance over a single image."""


def footprint(trial: Trial, tuning: Tuning, device: torch.device, *, most_images: int) -> Footprint:
    """Return what a trial will take at most, from batches of at most so many images.

    Raises what training raises, a lack of memory included.
    """
    whole = max(trial.training.batch_size, SMALLEST_BATCH)
    evaluated = evaluation_batch(device, trial.dataset.image_size)
    larger = min(whole, max(most_images, 2 * SMALLEST_BATCH))
    if larger == whole:
        return _with_share(_peak(trial, tuning, device, batch_size=whole, evaluated=evaluated), device)
    smaller = max(larger // 2, SMALLEST_BATCH)
    few, more = (_peak(trial, tuning, device, batch_size=size, evaluated=1) for size in (smaller, larger))
    evaluation = _peak(trial, tuning, device, batch_size=smaller, evaluated=evaluated)

    def at_whole(low: int, high: int, other: int) -> int:
        return max(other, high + max(high - low, 0) * (whole - larger) // (larger - smaller))

    found = Footprint(
        host_bytes=at_whole(few.host_bytes, more.host_bytes, evaluation.host_bytes),
        gpu_bytes=at_whole(few.gpu_bytes, more.gpu_bytes, evaluation.gpu_bytes),
    )
    return _with_share(found, device)


def _peak(trial: Trial, tuning: Tuning, device: torch.device, *, batch_size: int, evaluated: int) -> Footprint:
    """Return the peak of a short trial with batches of that size, and so many val and test images."""
    release_memory()
    memory = PeakMemory(device)
    short = replace(
        trial,
        weights="as-built" if trial.weights == "as-built" else "random",
        train_size=BATCHES * batch_size,
        training=replace(trial.training, batch_size=batch_size),
        strategy=replace(
            trial.strategy,
            phases=tuple(replace(phase, epochs=EPOCHS, patience=EPOCHS) for phase in trial.strategy.phases),
        ),
        first_phase_id=None,
    )
    side = trial.dataset.image_size
    larger = base_size(side) if crops(trial.strategy.augmentation) else None
    images = ImageData(
        classes=tuple(map(str, range(CLASSES))),
        train=_split(BATCHES * batch_size, side, larger),
        val=_split(evaluated, side),
        test=_split(evaluated, side),
        fingerprint="",
        content="",
    )
    training = Training(short, images, device=device, tuning=tuning)
    try:
        for _ in training:
            pass
        learned = training.finish().weights
    except DivergedError:  # noise and a high learning rate: what training takes is known by then
        learned = {}
    with TemporaryDirectory(prefix="raybench-footprint-") as folder:
        write_tensors(Path(folder) / "learned.safetensors", learned, {})
    peak = memory.host_peak_bytes()
    gpu = memory.peak_bytes() if device.type == "cuda" else 0
    del training, learned, images
    release_memory()
    return Footprint(host_bytes=peak, gpu_bytes=gpu)


def _with_share(found: Footprint, device: torch.device) -> Footprint:
    if device.type != "cuda":
        return found
    return replace(found, gpu_share=found.gpu_bytes / torch.cuda.mem_get_info(device)[1])


def _split(count: int, side: int, larger: int | None = None) -> ImageSplit:
    return ImageSplit(
        images=noise_pixels(count, side),
        labels=np.arange(count, dtype=np.int64) % CLASSES,
        names=tuple(map(str, range(count))),
        base=None if larger is None else noise_pixels(count, larger),
    )
