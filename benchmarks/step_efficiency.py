"""Images a second of a fine-tune trial through Ray, from the image cache, against bare steps on tensors in memory.

resnet18, resnet50 and alexnet at 64 px in batches of 32, on one core. The trial is a usual one, through raybench's own
`run_trials`: with validation, its best epoch kept, checkpoints and reports. After each of its epochs, the same worker
runs as many bare steps, so that both sides meet the same machine: zero_grad, forward, cross_entropy, backward, step, on
images that lie in memory as the model takes them; the same model, layout, precision, optimizer, batch sizes and
threads, without deterministic algorithms. The first epoch warms both up and does not count.

What counts is the training part of an epoch, as the history records it. The notes tell whole epochs too, in which
validation, checkpoints and Ray have their part, against bare steps and a bare validation: by the clock, and in seconds
of the processor, which a busy machine disturbs less.

    python -m benchmarks.step_efficiency
    python -m benchmarks.step_efficiency --gpu --image-size 224      # the same on a whole GPU
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.figures import Figure, publish
from benchmarks.images import photo_folder
from raybench.experiment import parse_experiment
from raybench.records import Allocation, EpochRecord, ResourceRequest, Trial, TrialResult, Tuning, Verdict
from raybench.results import load_history, load_results
from raybench.scheduling.meters import BENCH
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import run_trials
from raybench.training import execute, preflight
from raybench.training.batches import evaluation_batch, training_order
from raybench.training.data import load_images
from raybench.training.freezing import freeze
from raybench.training.models import build_network
from raybench.training.network import normalised
from raybench.training.optimization import build_optimizer
from raybench.training.process import prepare_process
from raybench.trials import expand

AT_LEAST = 0.95
MODELS = ("resnet18", "resnet50", "alexnet")
EPOCHS = 4
"""One to warm up, three that count."""
TRAIN_IMAGES = 416
IMAGE_SIZE = 64


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the three trials, one after another, and publish what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--images", type=int, default=TRAIN_IMAGES, help="in the training split")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--image-size", type=int, default=IMAGE_SIZE)
    parser.add_argument("--gpu", action="store_true", help="train on the first GPU in place of a core")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name)
        experiment = parse_experiment(
            {
                "name": "step-efficiency",
                "datasets": [
                    {
                        "name": "photos",
                        "source": f"imagefolder:{photo_folder().resolve()}",
                        "image_size": options.image_size,
                        "train_sizes": [options.images],
                    }
                ],
                "models": list(options.models),
                "strategies": ["fine-tune"],
                "training": {"epochs": options.epochs, "patience": options.epochs, "batch_size": 32},
            },
            "step_efficiency",
        )
        trials = expand(experiment, preflight.check(experiment, "step_efficiency"))
        run_trials(
            trials,
            run_dir=run_dir,
            settings=Settings(
                asha=None,
                resources=ResourceRequest(gpu=int(options.gpu), cpu=1),
                num_cpus=1,
                bench=BENCH,
                execute=f"benchmarks.step_efficiency:{run_beside_bare_steps.__name__}",
            ),
            on_event=lambda _: None,
        )
        publish("step_efficiency", *figures(run_dir, trials))


def figures(run_dir: Path, trials: Sequence[Trial]) -> tuple[list[Figure], dict[str, Any]]:
    """Return a figure a model, and what became of whole epochs."""
    results = load_results(run_dir).set_index("trial_id")
    compared, details = [], {}
    for trial in trials:
        if results["status"].get(trial.trial_id) != "completed":
            raise RuntimeError(f"{trial.model.name}: {results['error'].get(trial.trial_id, 'has no row')}")
        history = load_history(run_dir, only=[trial.trial_id])
        bare = json.loads((run_dir / f"{trial.trial_id}.json").read_text(encoding="utf-8"))
        ours = [float(speed) for speed in history["images_per_second"]][1:]
        whole = _ratios(bare["bare_epochs"], bare["whole_epochs"])
        processor = _ratios(bare["bare_processor"], bare["whole_processor"])
        name = trial.model.name
        compared.append(
            Figure(
                name=f"{name}, {trial.dataset.image_size} px",
                unit="images/s",
                ours=ours,
                peer=[trial.train_size / seconds for seconds in bare["steps"]][1:],
                peer_name="bare steps",
                more_is_better=True,
                at_least=AT_LEAST,
                note=f"(whole epochs: {median(whole):.2f}x, processor {median(processor):.2f}x; {bare['tuning']})",
                details={"tuning": bare["tuning"], "whole_epochs": whole, "whole_epochs_processor": processor},
            )
        )
        details[name] = bare | {"epoch_seconds": [float(seconds) for seconds in history["epoch_seconds"]]}
    return compared, details


def _ratios(bare: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [peer / own for peer, own in zip(bare, ours, strict=True)][1:]


def run_beside_bare_steps(
    trial: Trial, *, run_dir: Path, allocation: Allocation, on_epoch: Callable[[EpochRecord], Verdict]
) -> TrialResult:
    """Train a trial as usual; after each epoch, run as many bare steps, and keep what they took."""
    device = prepare_process(trial, allocation)
    bare = BareTraining(trial, allocation.tuning or Tuning(), device)
    seconds: dict[str, list[float]] = {
        name: [] for name in ("steps", "bare_epochs", "bare_processor", "whole_epochs", "whole_processor")
    }
    began = _Clocks()

    def beside(record: EpochRecord) -> Verdict:
        nonlocal began
        verdict = on_epoch(record)
        whole, began = began.passed(), _Clocks()
        torch.use_deterministic_algorithms(mode=False)
        seconds["steps"].append(bare.steps())
        bare.validation()
        torch.use_deterministic_algorithms(trial.training.deterministic, warn_only=True)
        for side, passed in (("whole", whole), ("bare", began.passed())):
            seconds[f"{side}_epochs"].append(passed.wall)
            seconds[f"{side}_processor"].append(passed.processor)
        began = _Clocks()
        return verdict

    result = execute.run(trial, run_dir=run_dir, allocation=allocation, on_epoch=beside)
    tuning = allocation.tuning or Tuning()
    ways = ["channels last"] * tuning.channels_last + ["bfloat16"] * tuning.bfloat16
    measured = {**seconds, "tuning": ", ".join(ways) or "as is usual", "threads": allocation.threads}
    (run_dir / f"{trial.trial_id}.json").write_text(json.dumps(measured), encoding="utf-8")
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clocks:
    """Seconds by the clock and of the processor."""

    wall: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)

    def passed(self) -> "_Clocks":
        """Return what has passed since this was made."""
        return _Clocks(wall=time.perf_counter() - self.wall, processor=time.process_time() - self.processor)


class BareTraining:
    """What a trial comes down to: the same model, on images that lie in memory, ready for it."""

    def __init__(self, trial: Trial, tuning: Tuning, device: torch.device) -> None:
        images = load_images(trial.dataset)
        network = build_network(
            trial.model,
            trial.weights,
            num_classes=len(images.classes),
            image_size=trial.dataset.image_size,
            seed=trial.seed,
        )
        layout = torch.channels_last if tuning.channels_last else torch.contiguous_format
        self._device = device
        self._bfloat16 = tuning.bfloat16
        self._module: nn.Module = network.module.to(device).to(memory_format=layout)
        self._optimizer = build_optimizer(trial.strategy.phases[0], freeze(network, "all"))

        def batches(pixels: Any, sizes: Sequence[int]) -> list[Tensor]:  # noqa: ANN401 - a memory-mapped array
            floats = torch.tensor(pixels[: sum(sizes)]).permute(0, 3, 1, 2).float() / 255
            ready = normalised(floats, network.mean, network.std)
            return [batch.to(device).clone(memory_format=layout) for batch in torch.split(ready, list(sizes))]

        sizes = [len(places) for places in training_order(trial.train_size, trial.training.batch_size, trial.seed, 1)]
        labels = torch.split(torch.from_numpy(images.train.labels[: trial.train_size]).to(device), sizes)
        self._train = list(zip(batches(images.train.images, sizes), labels, strict=True))
        size = evaluation_batch(device, trial.dataset.image_size)
        held_out = [min(size, len(images.val) - start) for start in range(0, len(images.val), size)]
        self._val = batches(images.val.images, held_out)

    def steps(self) -> float:
        """Return the seconds of one pass over the training images."""
        self._module.train()
        started = time.perf_counter()
        for images, labels in self._train:
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                scores = self._module(images)
            loss = functional.cross_entropy(scores.float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        self._wait()
        return time.perf_counter() - started

    @torch.no_grad()
    def validation(self) -> None:
        """Pass forward over the val images once."""
        self._module.eval()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            for images in self._val:
                self._module(images)
        self._wait()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


if __name__ == "__main__":
    main()
