"""The report as a file: complete, harmless, and about anything that can be read."""

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raybench.errors import InputError
from raybench.records import Status, Trial
from raybench.report.page import Written, write_report
from raybench.report.page_parts import Figure, Table
from tests.made_up_run import HOSTILE_MODELS, LONG, Changes, MadeUp

DATA = Path(__file__).parent.parent / "data"
FIRST_STUDY = DATA / "resnet_cost_performance.csv"
SECOND_STUDY = DATA / "alexnet_vs_resnet_history.csv"
VOID = {"meta", "br", "line", "ellipse", "link", "img", "input"}


class Reader(HTMLParser):
    """Elements of a page, and whether they are nested as they should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


def texts(reader: Reader) -> str:
    return " ".join(" ".join(reader.text).replace("\u00a0", " ").split())


def attributes(reader: Reader, name: str) -> list[str]:
    return [str(attrs[name]) for _, attrs in reader.elements if name in attrs]


@pytest.fixture(scope="module")
def page(made_up: Path) -> Written:
    return write_report([made_up])


@pytest.fixture(scope="module")
def hostile_page(hostile: Path) -> Written:
    return write_report([hostile])


def test_report_of_a_run_goes_into_its_directory(page: Written, made_up: Path) -> None:
    assert page.path == made_up / "report.html"


def test_report_of_a_table_goes_beside_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = write_report([FIRST_STUDY])
    assert written.path == Path("resnet_cost_performance.html")
    assert written.path.stat().st_size > 1000


def test_elements_are_nested_and_ids_stand_once(page: Written, hostile_page: Written) -> None:
    for written in (page, hostile_page):
        reader = read(written.path)
        assert reader.problems == []
        assert reader.open == []
        ids = attributes(reader, "id")
        assert len(ids) == len(set(ids))


def test_links_lead_to_places_on_the_page(page: Written) -> None:
    reader = read(page.path)
    places = {f"#{name}" for name in attributes(reader, "id")}
    links = attributes(reader, "href")
    assert links
    assert set(links) <= places


def test_page_may_not_ask_for_anything(page: Written, hostile_page: Written) -> None:
    for written in (page, hostile_page):
        reader = read(written.path)
        assert attributes(reader, "src") == []
        assert not {tag for tag, _ in reader.elements} & {"link", "iframe", "img", "object", "form"}
        policy = next(attrs["content"] for tag, attrs in reader.elements if tag == "meta" and "http-equiv" in attrs)
        assert policy is not None
        assert policy.startswith("default-src 'none'")


def test_headings_go_down_one_step_at_a_time(page: Written) -> None:
    levels = [int(tag[1]) for tag, _ in read(page.path).elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_figures_say_in_words_what_they_show(page: Written) -> None:
    reader = read(page.path)
    plots = [attrs for tag, attrs in reader.elements if tag == "div" and attrs.get("role") == "img"]
    assert len(plots) == len([tag for tag, _ in reader.elements if tag == "figure"]) == 3
    assert all(len(str(plot["aria-label"])) > 60 for plot in plots)


def test_figures_are_json_without_nan(hostile_page: Written) -> None:
    text = hostile_page.path.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, flags=re.DOTALL)
    assert len(found) >= 3

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for each in found:
        json.loads(each, parse_constant=refuse)


def test_hostile_names_are_shown_as_text(hostile_page: Written) -> None:
    reader = read(hostile_page.path)
    text = texts(reader)
    for name in (HOSTILE_MODELS[0], HOSTILE_MODELS[1], HOSTILE_MODELS[2], LONG):
        assert name in text
    assert "a?[31mred???new line" in text
    assert "{{ 7 * 7 }}{% raw %}" in text
    assert "<b>disc</b>" in text
    assert not {tag for tag, _ in reader.elements} & {"b", "img", "i", "u", "a href"}
    assert not [name for _, attrs in reader.elements for name in attrs if name.startswith("on")]


def test_no_control_character_and_no_direction_mark_is_left(hostile_page: Written) -> None:
    without_plotly = re.sub(r"<script>.*?</script>", "", hostile_page.path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not [letter for letter in without_plotly if not (letter.isprintable() or letter in "\n\u00a0")]


def test_first_screen_says_what_to_use_at_what_cost_and_how_sure(page: Written) -> None:
    said = {point.label: point.text for point in page.data.answer.points}
    assert page.data.answer.headline == "Use resnet8 fine-tune."
    assert "95 % interval" in said["Accuracy"]
    assert "3 seeds, 300 test images" in said["Accuracy"]
    assert said["Cost to train"].startswith("Less than a cent ($0.0071): ")
    assert said["Cost to train"].endswith(" of training on its own, on CPU at $0.40 an hour.")
    assert "1,000,000 images" in said["Cost to use"]
    assert said["Weakest class"].startswith("“")
    assert "resnet20 fine-tune" in said.get("No clear difference", "") + said.get("More accurate", "")
    verdict = page.data.answer.verdict
    assert verdict is not None
    assert verdict.text.startswith(
        "Not the most accurate: 1 of the 3 others is more so, by more than chance explains. "
    )


def test_sections_stand_in_reading_order(page: Written) -> None:
    names = ["ranking", "worth", "sizes", "gains", "training", "classes", "architectures", "environment"]
    assert [section.name for section in page.data.sections] == names


def test_experiment_file_and_command_are_there_to_repeat_it(page: Written) -> None:
    text = texts(read(page.path))
    assert "raybench run experiment.yaml" in text
    assert "name: made-up" in text
    assert "torch" in text


@pytest.mark.parametrize("source", [FIRST_STUDY, SECOND_STUDY], ids=lambda path: path.stem)
def test_published_studies_give_a_report(source: Path, tmp_path: Path) -> None:
    written = write_report([source], tmp_path / "r.html", test_images=["166"])
    reader = read(written.path)
    assert reader.problems == []
    assert "Nothing can be concluded" not in written.data.answer.headline


def test_first_study_says_that_its_first_four_cannot_be_told_apart(tmp_path: Path) -> None:
    written = write_report([FIRST_STUDY], tmp_path / "r.html", test_images=["166"])
    ranking = next(section for section in written.data.sections if section.name == "ranking")
    table = next(block for block in ranking.blocks if isinstance(block, Table) and "833" in block.folded)
    tie = [column.text for column in table.columns].index("tie")
    assert [row.cells[tie].text for row in table.rows[:4]] == ["1", "1", "1", "1"]


def test_second_study_shows_its_epochs_and_says_that_nothing_was_tested(tmp_path: Path) -> None:
    written = write_report([SECOND_STUDY], tmp_path / "r.html")
    training = next(section for section in written.data.sections if section.name == "training")
    (figure,) = training.blocks
    assert isinstance(figure, Figure)
    assert "15 epochs" in figure.text
    assert "validation images" in written.data.answer.points[0].text
    assert written.data.answer.headline == "Use resnet18 linear-probe, but nothing says how sure that is."


def nothing_ended(_trial: Trial) -> Mapping[str, Any] | None:
    return None


def all_failed(_trial: Trial) -> Mapping[str, Any]:
    return {"status": Status.FAILED, "error": "x"}


def all_stopped(_trial: Trial) -> Mapping[str, Any]:
    return {"status": Status.STOPPED}


def no_numbers(_trial: Trial) -> Mapping[str, Any]:
    nothing = ("val_loss", "val_accuracy", "train_seconds", "standalone_seconds", "standalone_cost_usd")
    return dict.fromkeys((*nothing, "inference_images_per_second", "inference_latency_seconds"), float("nan"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (nothing_ended, "No configuration can be advised: none has completed"),
        (all_failed, "No configuration can be advised: none has completed"),
        (all_stopped, "No configuration can be advised: none has completed"),
        (no_numbers, "Use "),
    ],
)
def test_runs_without_an_answer_say_why(changes: Changes, says: str, tmp_path: Path) -> None:
    run = MadeUp(changes=changes).write(tmp_path / "run")
    written = write_report([run])
    assert written.data.answer.headline.startswith(says)
    assert read(written.path).problems == []


@pytest.mark.parametrize(
    "experiment",
    [
        {"models": ["resnet8"], "strategies": ["fine-tune"], "seeds": [0]},
        {"seeds": [0]},
        {"datasets": [{"name": name, "source": f"imagefolder:{name}", "image_size": 32} for name in "abc"]},
    ],
    ids=["one configuration", "one seed", "three datasets"],
)
def test_small_and_wide_runs_give_a_report(experiment: dict[str, Any], tmp_path: Path) -> None:
    run = MadeUp(experiment=experiment).write(tmp_path / "run")
    written = write_report([run])
    assert written.data.answer.headline.startswith("Use ")
    assert read(written.path).problems == []


def test_a_single_class_and_equal_accuracies_give_a_report(tmp_path: Path) -> None:
    alike = {"test_accuracy": 1.0, "val_accuracy": 1.0}
    run = MadeUp(classes=("only",), changes=lambda _: alike).write(tmp_path / "run")
    said = {point.label for point in write_report([run]).data.answer.points}
    assert "Weakest class" not in said


@pytest.mark.parametrize(
    "table",
    [
        {"model": ["a", "b"], "test_accuracy": [0.5, np.nan]},
        {"model": ["a"], "test_accuracy": [np.nan]},
        {"model": ["a", "b"], "test_accuracy": [0.5, 0.5], "train_seconds": [0.0, 0.0]},
        {"model": ["a", "a", "b"], "test_accuracy": [0.5, 0.6, 0.7], "seed": [0, 1, 0]},
    ],
    ids=["one unknown", "all unknown", "zero cost", "unequal seeds"],
)
def test_poor_tables_give_a_report(table: dict[str, list[object]], tmp_path: Path) -> None:
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    written = write_report([tmp_path / "t.csv"], tmp_path / "t.html")
    assert read(written.path).problems == []


def test_several_sources_give_one_report(made_up: Path, tmp_path: Path) -> None:
    written = write_report([made_up, FIRST_STUDY], tmp_path / "r.html")
    assert written.data.title == "made-up + resnet_cost_performance"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--output .*file.*cannot be written"):
        write_report([FIRST_STUDY], tmp_path / "file" / "r.html")


def test_thousands_of_configurations_stay_readable(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    count = 3000
    table = pd.DataFrame(
        {
            "model": [f"model{place}" for place in range(count)],
            "test_accuracy": draw.uniform(0.5, 0.9, count),
            "val_accuracy": draw.uniform(0.5, 0.9, count),
            "train_seconds": draw.uniform(10, 1000, count),
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    written = write_report([tmp_path / "t.csv"], tmp_path / "t.html")
    text = written.path.read_text(encoding="utf-8")
    assert text.count("<tr") < 2500
    assert "of 3000" in text
    assert written.data.answer.figure is not None
    assert sum(len(trace["x"]) for trace in written.data.answer.figure.plot["data"]) < 3000


def tune_trial(folder: Path, kind: str, rng: int, score: str, values: list[float]) -> None:
    folder.mkdir(parents=True)
    reports = [{"training_iteration": place, score: value} for place, value in enumerate(values, start=1)]
    (folder / "result.json").write_text("".join(json.dumps(report) + "\n" for report in reports), encoding="utf-8")
    (folder / "params.json").write_text(json.dumps({"net": kind, "seed": rng}), encoding="utf-8")


@pytest.mark.parametrize("score", ["test_accuracy", "val_loss"])
def test_results_of_ray_tune_give_a_report(score: str, tmp_path: Path) -> None:
    for kind, base in (("small", 0.6), ("big", 0.8)):
        for rng in (0, 1):
            values = [base - 0.1, base + 0.01 * rng]
            tune_trial(tmp_path / "theirs" / f"train_{kind}_{rng}", kind, rng, score, values)
    written = write_report([tmp_path / "theirs"], tmp_path / "r.html", columns=["model=config/net"])
    reader = read(written.path)
    assert reader.problems == []
    assert "big" in texts(reader)
    assert written.data.answer.headline.startswith("Use big" if score == "test_accuracy" else "No configuration")


def test_sizes_that_datasets_share_are_counted_once(tmp_path: Path) -> None:
    table = pd.DataFrame(
        [
            {"dataset": dataset, "train_size": size, "model": "resnet18", "test_accuracy": 0.9}
            for dataset in ("beans", "leaves")
            for size in (100, 200, 400)
        ]
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    written = write_report([tmp_path / "table.csv"], tmp_path / "page.html")
    assert "1 configuration on 2 datasets at 3 training-set sizes, 6 trials" in texts(read(written.path))


@pytest.mark.parametrize(("of_resnet50", "opposite"), [(-0.1, True), (0.1, False)])
def test_gains_that_help_some_and_harm_others_are_not_left_to_an_average(
    tmp_path: Path, of_resnet50: float, opposite: bool
) -> None:
    table = pd.DataFrame(
        [
            {
                "model": model,
                "strategy": strategy,
                "seed": seed,
                "train_size": size,
                "test_accuracy": 0.8 + 0.001 * seed + (gain if strategy == "fine-tune" else 0),
            }
            for model, gain in (("resnet18", 0.1), ("resnet50", of_resnet50))
            for strategy in ("linear-probe", "fine-tune")
            for size in (100, 400)
            for seed in range(5)
        ]
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    text = texts(read(write_report([tmp_path / "table.csv"], tmp_path / "page.html", test_images=["10000"]).path))
    said = (
        "Fine-tuning at 400 images: +10.0 points for resnet18: linear-probe → fine-tune but -10.0 points for resnet50: "
        "linear-probe → fine-tune. An average of opposites holds for neither."
    )
    assert (said in text) == opposite
