"""Whatever text is given as an experiment: it is read, or refused with one short message, and soon."""

import time
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.experiment import Experiment, load_experiment
from raybench.plan import make_plan
from raybench.records import DatasetFacts, Facts, WeightsFacts
from tests.fuzz.damage import attempt, damaged, examples

LONGEST_MESSAGE: Final = 4000
"""Characters of a message: a screen."""
MOST_SECONDS: Final = 5.0
"""Most texts take a hundredth of it; other tests share the machine."""
MOST_TRIALS: Final = 500
"""Larger plans are left out: they only take their time."""

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FULL = """
name: full
datasets:
  - {name: a, source: digits, image_size: 8, train_sizes: [40, all], augmentation: no-flip, val_size: 20}
  - {name: b, source: "imagefolder:images", root: data, on_bad_image: skip}
models: [resnet8, {name: "my.module:Net", head: fc}]
weights: [random, packaged, w.pth]
strategies:
  - linear-probe
  - fine-tune+augment
  - {name: mine, augment: randaugment, phases: [{train: head, epochs: 3}, {train: [layer4], learning_rate: auto}]}
seeds: [0, 1, 2]
training: {epochs: 5, patience: 2, optimizer: sgd, learning_rate: 1e-3, schedule: cosine, momentum: 0.9}
scheduler: {asha: {grace_period: 2, reduction_factor: 3, group_by: [dataset, seed]}}
resources: {gpu: auto, cpu: 1, measure: false}
price_per_hour_usd: {local: 0.4}
budget: {usd: 3, hours: 1}
trial_timeout: 6h
cache_limit_gb: 5
"""
TEXTS = [FULL.encode(), *(path.read_bytes() for path in sorted(EXPERIMENTS.glob("*.yaml")))]
VALUES = [
    *("-1", "0", "1e999", "-.inf", ".nan", "9" * 5000, "0x" + "f" * 6000, "1" + ":59" * 3000, "2147483648", "1e-400"),
    *(
        "null",
        "true",
        "~",
        "''",
        "'\\0'",
        '"\\ud800"',
        '"\\U00110000"',
        '"\\uFFFE"',
        "\ufeff",
        "\u202e",
        "'\U0001f600'",
    ),
    *("[]", "{}", "[[[]]]", "[" * 200, "{a: " * 60, "- " * 100, "? ", "&a [1]", "*a", "<<: {a: 1}", "=", "!!int ''"),
    *(
        "!!python/object/apply:os.system ['id']",
        "!!binary aGk=",
        "!!set {a}",
        "!!timestamp x",
        "!!float {}",
        "!!str []",
    ),
    *("2001-99-99", "9999-12-31T23:59:59-23:59", "../..", "/dev/zero", "https://a:b@c/", "x" * 5000, "all", "auto"),
    *(
        "&x [*x]",
        "{<<: 3}",
        "!<tag:yaml.org,2002:merge> a",
        "|\n  a\n",
        ">-",
        "%YAML 9.9",
        "---",
        "...",
        "\t",
        "@",
        "`",
    ),
]
KEYS = sorted(Experiment.model_fields)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An experiment some of whose words or lines are others."""
    words = draw(st.sampled_from(TEXTS)).decode().split(" ")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(words) - 1))
        match draw(st.sampled_from(["value", "twice", "none", "line", "swap"])):
            case "value":
                ending = words[at][len(words[at].rstrip("]},\n")) :]
                words[at] = draw(st.sampled_from(VALUES)) + ending
            case "twice":
                words.insert(at, words[at])
            case "none":
                words[at] = ""
            case "line":
                words[at] += f"\n{draw(st.sampled_from(KEYS))}: {draw(st.sampled_from(VALUES))}\n"
            case "swap":
                other = draw(st.integers(0, len(words) - 1))
                words[at], words[other] = words[other], words[at]
    return " ".join(words).encode("utf-8", "surrogatepass")


def made_up_facts(experiment: Experiment) -> Facts:
    """What preflight would learn if everything were there."""
    return Facts(
        datasets={
            each.name: DatasetFacts(
                name=each.name,
                fingerprint=each.name,
                classes=("disc", "box"),
                train_images=800,
                val_images=100,
                test_images=100,
                train_class_counts=(400, 400),
                warnings=(),
            )
            for each in experiment.datasets
        },
        weights={
            f"{model.name} {weights}": WeightsFacts(model=model.name, weights=weights, digest=weights, note="")
            for model in experiment.models
            for weights in experiment.weights
        },
    )


def trials_of(experiment: Experiment) -> int:
    sizes = sum(len(dataset.train_sizes) for dataset in experiment.datasets)
    return sizes * len(experiment.models) * len(experiment.weights) * len(experiment.strategies) * len(experiment.seeds)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "experiment.yaml"


@examples()
@given(content=st.one_of(mutated(), damaged(TEXTS)), keys=st.lists(st.sampled_from(KEYS), max_size=1), data=st.data())
def test_any_text_is_an_experiment_or_refused_with_one_short_message(
    file: Path, content: bytes, keys: list[str], data: st.DataObject
) -> None:
    file.write_bytes(content)
    options = [f"{key}={data.draw(st.sampled_from(VALUES))}" for key in keys]

    def read() -> None:
        experiment = load_experiment(file, options)
        if trials_of(experiment) <= MOST_TRIALS:
            make_plan(experiment, made_up_facts(experiment), file.parent)

    began = time.monotonic()
    message = attempt(read).message
    assert time.monotonic() - began < MOST_SECONDS
    if message is not None:
        assert 0 < len(message) <= LONGEST_MESSAGE
        assert all(letter.isprintable() or letter == "\n" for letter in message)


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_damaged_here_is_an_experiment_at_first(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    assert load_experiment(file).name
