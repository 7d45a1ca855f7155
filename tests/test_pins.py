"""Which kinds of accelerator a model's trials may run on: what a file may say, and what is told where none fits."""

from typing import Any

import pytest

from raybench.errors import ExperimentError
from raybench.experiment import Experiment, parse_experiment
from raybench.scheduling.resources import Node, Share, all_kinds, asked_kinds, check_kinds, count_places, fit, kinds_of

MODELS = ["resnet8", "resnet20"]


def experiment(accelerator: object) -> Experiment:
    data: dict[str, Any] = {
        "name": "small",
        "datasets": [{"name": "digits", "source": "digits", "image_size": 16}],
        "models": MODELS,
        "strategies": ["linear-probe"],
        "resources": {"accelerator": accelerator, "cpu": 1, "gpu": 0},
    }
    return parse_experiment(data, "small.yaml")


A10G, L4, BARE = (Node(cpus=2, gpus=1, accelerator=kind) for kind in ("A10G", "L4", None))


@pytest.mark.parametrize(
    ("accelerator", "of_each", "of_all"),
    [
        ("any", [(), ()], ()),
        ("A10G", [("A10G",), ("A10G",)], ("A10G",)),
        (["L4", "A10G"], [("A10G", "L4"), ("A10G", "L4")], ("A10G", "L4")),
        ({"resnet20": "L4"}, [(), ("L4",)], ()),
        ({"resnet8": "A10G", "resnet20": "L4"}, [("A10G",), ("L4",)], ("A10G", "L4")),
        ({"resnet8": "any"}, [(), ()], ()),
    ],
)
def test_models_run_on_the_kinds_that_the_file_gives_them(
    accelerator: object, of_each: list[tuple[str, ...]], of_all: tuple[str, ...]
) -> None:
    request = experiment(accelerator).resource_request()
    assert [kinds_of(request, model) for model in MODELS] == of_each
    assert all_kinds(request) == of_all
    assert set(asked_kinds(request)) == set(of_each)
    assert fit(request, [A10G, L4, BARE]).accelerators == of_all


@pytest.mark.parametrize(
    ("accelerator", "said"),
    [
        (3, "resources.accelerator: 3 is not accepted; give any, a kind of accelerator such as A10G"),
        ("NVIDIA A10G", "'NVIDIA A10G' is not accepted"),
        ([], r"\[\] is not accepted"),
        (["any", "L4"], "any stands alone"),
        ({"resnet20": 1}, "1 is not accepted"),
        ({"resnet50": "L4"}, "'resnet50' is none of the models; accepted here: resnet8, resnet20"),
    ],
)
def test_what_names_no_kind_is_refused_with_what_is_accepted(accelerator: object, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        experiment(accelerator)


@pytest.mark.parametrize(
    ("machines", "said"),
    [
        ([A10G, L4], "no machine has H100, asked for resnet8; give one of A10G, L4, or any"),
        ([BARE], "no machine has H100, asked for resnet8; none of these machines has one; give any, or leave"),
        ([], "no machine has H100"),
    ],
)
def test_a_kind_that_is_not_there_is_named_with_those_that_are(machines: list[Node], said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        check_kinds(experiment("H100").resource_request(), machines)


def test_only_machines_of_a_kind_count_as_places_for_it() -> None:
    assert count_places(Share(cpu=1, gpu=0, accelerators=("L4",)), [A10G, L4, BARE]) == 2
    assert count_places(Share(cpu=1, gpu=0), [A10G, L4, BARE]) == 6
