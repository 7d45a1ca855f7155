"""Find out, before Ray starts, whether the data, models and weights of an experiment exist, fit together and load.

In: an `Experiment`. Out: `Facts`: what the data and weights are, as trial ids need it and as a reader
should know it. The image caches are built on the way, so the first trial finds them.
Errors name the key of the experiment file; nothing of the run directory is written.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace

from raybench.cache import cache_root
from raybench.errors import DataError, ExperimentError, ModelError, RaybenchError, WeightsError
from raybench.eviction import Space, make_room
from raybench.experiment import Experiment
from raybench.recipes import strategies_of
from raybench.records import DatasetFacts, Facts, ModelSpec, WeightsFacts
from raybench.training.augment import crops
from raybench.training.data import ImageData, ListedDataset, decode_images, list_dataset
from raybench.training.freezing import freeze
from raybench.training.models import build_network, weights_facts
from raybench.trials import dataset_spec, expand, model_specs

Report = Callable[[str, int, int], None]
"""Told what is being read, how many images are done, and how many there are."""


def check(experiment: Experiment, label: str, report: Report | None = None) -> Facts:
    """Look at everything that the experiment names, at what takes longest last: the images are decoded at the end.

    Args:
        experiment: what to look at.
        label: the experiment's file, for messages.
        report: told the progress of decoding.

    Raises:
        DataError, ModelError, WeightsError, ExperimentError: the message names file, key, value and what is accepted.

    """
    with _named(label):
        for dataset in experiment.datasets:
            strategies_of(experiment, dataset)
    listed = {}
    for index, dataset in enumerate(experiment.datasets):
        with _named(f"{label}: datasets[{index}]"):
            listed[dataset.name] = list_dataset(dataset_spec(dataset))
    facts = Facts(datasets={name: each.facts() for name, each in listed.items()}, weights={})
    facts = replace(facts, weights=_weights(experiment, label, facts.datasets))
    with _named(label):
        expand(experiment, facts)
        cropped = _cropped(experiment)
        _check_cache_limit(experiment, listed, cropped)
    decoded = {}  # held to the end: no dataset of an experiment makes room for another one of it
    for index, (name, each) in enumerate(listed.items()):
        with _named(f"{label}: datasets[{index}]"):
            decoded[name] = _decoded(each, experiment.cache_limit_bytes, report, with_base=name in cropped)
    make_room(cache_root(), experiment.cache_limit_bytes, 0)
    facts = replace(facts, datasets={name: images.facts(name) for name, images in decoded.items()})
    with _named(label):
        expand(experiment, facts)  # once more: where unreadable images are left out, sizes may be above what is there
    return facts


def _weights(experiment: Experiment, label: str, datasets: Mapping[str, DatasetFacts]) -> dict[str, WeightsFacts]:
    """Check every model with every choice of weights, and the layers that phases name."""
    weights = {}
    for index, model in enumerate(model_specs(experiment)):
        for place, choice in enumerate(experiment.weights):
            for dataset in experiment.datasets:
                with _named(f"{label}: models[{index}], weights[{place}]"):
                    weights[f"{model.name} {choice}"] = weights_facts(
                        model,
                        choice,
                        num_classes=len(datasets[dataset.name].classes),
                        image_size=dataset.image_size,
                    )
        with _named(f"{label}: strategies"):
            _check_layers(experiment, model, datasets)
    return weights


def _cropped(experiment: Experiment) -> set[str]:
    """Return the datasets of which a strategy reads random crops, which need larger images."""
    return {
        dataset.name
        for dataset in experiment.datasets
        if any(crops(strategy.augmentation) for strategy in strategies_of(experiment, dataset))
    }


def _check_cache_limit(experiment: Experiment, listed: Mapping[str, ListedDataset], cropped: AbstractSet[str]) -> None:
    """Find out before hours of decoding whether all that is to be decoded may lie in the cache."""
    needed = sum(each.decoded_bytes(with_base=name in cropped) for name, each in listed.items())
    space = Space(limit_bytes=experiment.cache_limit_bytes, in_use_bytes=0, disk_bytes=experiment.cache_limit_bytes)
    if needed > space.available_bytes:
        raise DataError(f"{space.shortage('the decoded images', needed)}, or a smaller image_size")


def _decoded(listed: ListedDataset, limit_bytes: int, report: Report | None, *, with_base: bool) -> ImageData:
    def progress(done: int, total: int) -> None:
        if report is not None:
            report(listed.spec.name, done, total)

    return decode_images(listed, with_base=with_base, limit_bytes=limit_bytes, progress=progress)


def _check_layers(experiment: Experiment, model: ModelSpec, datasets: Mapping[str, DatasetFacts]) -> None:
    """Find layers that a spelled-out phase names and the model lacks."""
    dataset = experiment.datasets[0]
    layers = {
        phase.train
        for strategy in strategies_of(experiment, dataset)
        for phase in strategy.phases
        if not isinstance(phase.train, str)
    }
    if not layers:
        return
    network = build_network(
        model,
        "as-built" if experiment.weights == ["as-built"] else "random",
        num_classes=len(datasets[dataset.name].classes),
        image_size=dataset.image_size,
        seed=0,
    )
    for names in sorted(layers):
        freeze(network, names)


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Put the key before the message of an error raised inside."""
    kinds: tuple[type[RaybenchError], ...] = (DataError, ModelError, WeightsError, ExperimentError)
    try:
        yield
    except kinds as error:
        raise type(error)(f"{key}: {error}") from None
