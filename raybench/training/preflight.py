"""Before Ray starts: do the data, models and weights of an experiment exist, fit together and load?

In: an `Experiment`. Out: `Facts`: what the data and weights are, as trial ids need it and as a reader
should know it. The image caches are built on the way, so the first trial finds them.
Errors name the key of the experiment file; nothing of the run directory is written.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raybench.errors import DataError, ExperimentError, ModelError, RaybenchError, WeightsError
from raybench.experiment import DatasetConfig, Experiment
from raybench.records import DatasetFacts, Facts, ModelSpec
from raybench.training.data import load_images
from raybench.training.freezing import freeze
from raybench.training.models import build_network, weights_facts

from raybench.trials import dataset_spec, model_specs, strategies_of

Report = Callable[[str, int, int], None]
"""Told what is being read, how many images are done, and how many there are."""


def check(experiment: Experiment, label: str, report: Report | None = None) -> Facts:
    """Look at everything that the experiment names.

    Args:
        experiment: what to look at.
        label: the experiment's file, for messages.
        report: told the progress of decoding.

    Raises:
        DataError, ModelError, WeightsError, ExperimentError: the message names file, key, value and what is accepted.

    """
    datasets = {}
    for index, dataset in enumerate(experiment.datasets):
        with _named(f"{label}: datasets[{index}]"):
            datasets[dataset.name] = _dataset_facts(dataset, report)
    weights = {}
    for index, model in enumerate(model_specs(experiment)):
        for place, choice in enumerate(experiment.weights):
            for dataset in experiment.datasets:
                with _named(f"{label}: models[{index}], weights[{place}]"):
                    facts = weights_facts(
                        model,
                        choice,
                        num_classes=len(datasets[dataset.name].classes),
                        image_size=dataset.image_size,
                    )
                weights[f"{model.name} {choice}"] = facts
        with _named(f"{label}: strategies"):
            _check_layers(experiment, model, datasets)
    return Facts(datasets=datasets, weights=weights)


def _dataset_facts(dataset: DatasetConfig, report: Report | None) -> DatasetFacts:
    def progress(done: int, total: int) -> None:
        if report is not None:
            report(dataset.name, done, total)

    return load_images(dataset_spec(dataset), progress=progress).facts(dataset.name)


def _check_layers(experiment: Experiment, model: ModelSpec, datasets: dict[str, DatasetFacts]) -> None:
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


