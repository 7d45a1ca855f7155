"""What a run settles before its first trial, with real processes that measure fixed figures."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from raybench.choices import Choices, Step, processor_name, step_key
from raybench.errors import ExperimentError
from raybench.events import Notice
from raybench.records import ResourceRequest, Trial, Tuning
from raybench.scheduling.choosing import Settled, choice_text, settle, unmeasured
from raybench.scheduling.cluster import import_path, ray_session
from raybench.scheduling.meters import ROUNDS, Origin
from raybench.scheduling.resources import Node, Share, nodes
from tests.builders import SETTINGS, make_trial
from tests.scheduling.fake_bench import BENCH, Figures, asked, write_figures

SMALL, LARGE = make_trial("1", model="small"), make_trial("2", model="large")
AUTO = ResourceRequest(gpu=None, cpu=None)
TOTALS = {"1": 100.0, "2": 180.0, "4": 181.0}
LAYOUT = Tuning(channels_last=True)


@pytest.fixture(scope="module")
def machine() -> Iterator[Node]:
    with ray_session(num_cpus=4, num_gpus=1):
        (here,) = nodes()
        yield replace(here, gpus=0)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))


def settled(
    machine: Node,
    *trials: Trial,
    request: ResourceRequest = AUTO,
    earlier: Choices | None = None,
    told: list[Notice] | None = None,
    stopped: bool = False,
    limit_seconds: float = 60,
) -> Settled:
    return settle(
        trials or (SMALL, LARGE),
        request=request,
        machines=[machine],
        earlier=earlier or Choices(),
        origin=Origin(import_path=import_path(), directory=Path.cwd(), bench=BENCH, limit_seconds=limit_seconds),
        tell=(told if told is not None else []).append,
        stopped=lambda: stopped,
    )


def test_as_many_trials_run_at_once_as_pay_and_each_model_as_it_is_fastest(machine: Node, tmp_path: Path) -> None:
    figures = Figures(totals=TOTALS, images_per_second={"large": 10.0}, channels_last=["large"])
    write_figures(tmp_path, figures)
    told: list[Notice] = []
    result = settled(machine, told=told)
    assert result.share == Share(cpu=2, gpu=0)
    choices = result.choices
    assert (choices.cpu_per_trial, choices.threads_per_trial, choices.measured_on) == (2, 2, processor_name())
    steps = choices.steps[processor_name()]
    assert {key: step.tuning for key, step in steps.items()} == {step_key(SMALL): Tuning(), step_key(LARGE): LAYOUT}
    assert [notice.text for notice in told if notice.lasting] == [
        "2 trials at once, 2 threads each; channels last for large at 16 px"
    ]
    trained = asked(tmp_path, "train")
    assert [entry["number"] for entry in trained] == [*[1] * ROUNDS, *[2] * 2 * ROUNDS, *[4] * 4 * ROUNDS]
    assert {entry["model"] for entry in trained} == {"large"}, "the costliest decides"
    assert [entry["threads"] for entry in trained] == [*[4] * ROUNDS, *[2] * 2 * ROUNDS, *[1] * 4 * ROUNDS]
    assert {entry["batch_size"] for entry in asked(tmp_path, "warm up")} == {4}, "half a second of 10 images a second"
    four = trained[-4:]
    assert max(entry["begin"] for entry in four) < min(entry["end"] for entry in four), "they train at the same time"
    assert len({entry["pid"] for entry in four}) == 4
    # First with one thread, to find the costliest model, then with those that trials have.
    assert sorted(entry["threads"] for entry in asked(tmp_path, "choose")) == [1, 1, 2, 2]

    write_figures(tmp_path, Figures(totals={"1": 1.0, "2": 1.0}))
    questions = len(asked(tmp_path, "choose"))
    again = settled(machine)
    assert again == result, "what was measured here holds for later runs"
    assert len(asked(tmp_path, "choose")) == questions


def test_what_a_run_chose_holds_over_what_is_measured(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals=TOTALS))
    kept = Step(tuning=LAYOUT, images_per_second=5.0)
    earlier = Choices(
        cpu_per_trial=4.0,
        gpu_per_trial=0.0,
        threads_per_trial=4,
        measured_on=processor_name(),
        steps={processor_name(): {step_key(SMALL): kept}, "another processor": {}},
    )
    result = settled(machine, earlier=earlier)
    assert result.share == Share(cpu=4, gpu=0)
    assert result.choices.steps[processor_name()][step_key(SMALL)] == kept
    assert set(result.choices.steps) == {processor_name(), "another processor"}
    assert [entry["model"] for entry in asked(tmp_path, "choose")] == ["large"], "only what is new is measured"
    assert asked(tmp_path, "train") == []


def test_what_was_chosen_elsewhere_or_does_not_fit_is_measured_anew(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals={"1": 100.0, "2": 100.0}))
    elsewhere = Choices(cpu_per_trial=1.0, gpu_per_trial=0.0, measured_on="another processor")
    too_large = Choices(cpu_per_trial=64.0, gpu_per_trial=0.0, measured_on=processor_name())
    assert settled(machine, SMALL, earlier=elsewhere).share == Share(cpu=4, gpu=0)
    assert settled(machine, SMALL, earlier=too_large).share == Share(cpu=4, gpu=0)


def test_a_number_of_cores_is_what_each_trial_gets(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals=TOTALS))
    result = settled(machine, SMALL, request=ResourceRequest(gpu=None, cpu=3.0))
    assert result.share == Share(cpu=3, gpu=0)
    assert result.choices.measured_on is None
    assert [entry["threads"] for entry in asked(tmp_path, "choose")] == [3]
    assert asked(tmp_path, "train") == []


def test_a_model_that_cannot_be_measured_is_trained_as_is_usual(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals={"1": 100.0, "2": 100.0}, fails=["small"]))
    told: list[Notice] = []
    result = settled(machine, told=told)
    assert set(result.choices.steps[processor_name()]) == {step_key(LARGE)}
    assert any("small is beyond us" in notice.text for notice in told)
    write_figures(tmp_path, Figures(totals={}, fails=["small"]))
    assert settled(machine, SMALL).share == Share(cpu=1, gpu=0)


def test_a_model_that_gives_no_answer_does_not_keep_the_run_from_starting(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals={}, hangs=["large"]))
    told: list[Notice] = []
    result = settled(machine, LARGE, told=told, limit_seconds=0.5)
    assert result.share == Share(cpu=1, gpu=0)
    assert result.choices.steps[processor_name()] == {}
    assert any("no answer within 0.5 s" in notice.text for notice in told)


def test_processes_that_run_out_of_memory_end_the_search(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals=TOTALS, dies_at=2))
    assert settled(machine, SMALL).share == Share(cpu=4, gpu=0)


def test_no_more_processes_are_tried_than_fit_into_the_memory(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals={"1": 1.0, "2": 2.0}, peak_bytes=40))
    assert settled(machine, SMALL).share == Share(cpu=2, gpu=0)
    assert {entry["number"] for entry in asked(tmp_path, "train")} == {1, 2}
    assert settled(machine, SMALL).share == Share(cpu=2, gpu=0)
    assert len(asked(tmp_path, "train")) == 3 * ROUNDS, "it is known from now on"


def test_one_core_holds_one_trial_without_asking(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals={}))
    assert settled(replace(machine, cpus=1), SMALL).share == Share(cpu=1, gpu=0)
    assert asked(tmp_path, "train") == []


def test_trials_share_a_gpu_where_that_pays(machine: Node, tmp_path: Path) -> None:
    gpu = replace(machine, gpus=1, accelerator="A10G")
    write_figures(tmp_path, Figures(totals={"1": 1.0, "2": 2.0, "4": 2.0}, on_gpu=True))
    told: list[Notice] = []
    result = settled(gpu, SMALL, told=told)
    assert result.share == Share(cpu=2, gpu=0.5)
    assert result.choices.measured_on == "A10G"
    assert set(result.choices.steps) == {"A10G"}
    assert {entry["batch_size"] for entry in asked(tmp_path, "warm up")} == {32}, "the memory of a GPU is what counts"
    assert told[-1].text == "2 trials at once, 2 threads each"
    assert settled(gpu, SMALL, earlier=result.choices).share == result.share


def test_how_steps_are_computed_on_a_gpu_does_not_depend_on_a_trials_part_of_it(machine: Node, tmp_path: Path) -> None:
    gpu = replace(machine, gpus=1, accelerator="A10G")
    write_figures(tmp_path, Figures(totals={}, on_gpu=True, channels_last=["small"]))
    half = settled(gpu, SMALL, request=ResourceRequest(gpu=0.5, cpu=None))
    write_figures(tmp_path, Figures(totals={}, on_gpu=True))
    whole = settled(gpu, SMALL, request=ResourceRequest(gpu=1, cpu=None))
    assert (half.share.threads, whole.share.threads) == (2, 4)
    assert (
        half.choices.steps
        == whole.choices.steps
        == {"A10G": {step_key(SMALL): Step(tuning=LAYOUT, images_per_second=100.0)}}
    )
    assert len(asked(tmp_path, "choose")) == 1


def test_a_gpu_that_is_only_declared_or_that_torch_does_not_see_is_given_whole(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals={"1": 1.0, "2": 2.0}))
    assert settled(replace(machine, gpus=1), SMALL).share == Share(cpu=4, gpu=1)
    assert settled(replace(machine, gpus=1, accelerator="A10G"), SMALL).share == Share(cpu=4, gpu=1)
    assert asked(tmp_path, "train") == []


def test_whoever_wants_to_end_need_not_wait_for_measurements(machine: Node, tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(totals={}))
    with pytest.raises(KeyboardInterrupt):
        settled(machine, stopped=True)


def test_without_measuring_a_trial_gets_one_core_or_its_part_of_a_gpus(machine: Node) -> None:
    earlier = Choices(steps={"p": {"k": Step(tuning=LAYOUT, images_per_second=1.0)}})
    result = unmeasured(AUTO, [machine], earlier)
    assert result.share == Share(cpu=1, gpu=0)
    assert result.choices == replace(earlier, cpu_per_trial=1, gpu_per_trial=0, threads_per_trial=1)
    box = Node(cpus=16, gpus=2)
    assert unmeasured(AUTO, [box], earlier).share == Share(cpu=8, gpu=1)
    assert unmeasured(ResourceRequest(gpu=0.25, cpu=None), [box], earlier).share == Share(cpu=2, gpu=0.25)
    with pytest.raises(ExperimentError, match=r"resources\.cpu: 99"):
        unmeasured(ResourceRequest(gpu=None, cpu=99), [box], earlier)


def test_a_choice_is_told_in_one_line() -> None:
    small, large = (replace(trial, training=replace(SETTINGS, precision="auto")) for trial in (SMALL, LARGE))
    both = Step(tuning=Tuning(channels_last=True, bfloat16=True), images_per_second=1.0)
    half = replace(both, tuning=Tuning(bfloat16=True))
    steps = {"p": {step_key(small): both, step_key(large): half, step_key(LARGE): half}}
    said = "channels last and bfloat16 for small at 16 px; bfloat16 for large at 16 px"
    text = choice_text(Share(cpu=2, gpu=0), [Node(cpus=2, gpus=0)], [small, large], steps)
    assert text == f"1 trial at once, 2 threads; {said}"
    text = choice_text(Share(cpu=1, gpu=0), [Node(cpus=4, gpus=0)], [LARGE], steps)
    assert text == "4 trials at once, 1 thread each", "the experiment says the precision"
