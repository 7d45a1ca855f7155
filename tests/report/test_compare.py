"""Two runs side by side: pairs, what only one holds, and whether the comparison is fair."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raybench.choices import Choices, Step
from raybench.records import Status, Trial, Tuning
from raybench.report.compare import FAIR, UNFAIR, Comparison, compare
from raybench.report.compare_views import comparison_view
from raybench.report.page import render_comparison
from raybench.report.page_material import load_material
from tests.made_up_run import HOSTILE, Changes, MadeUp, accuracy_of

STUDY = Path(__file__).parent.parent / "data" / "resnet_cost_performance.csv"
ONE_SIZE = [{"name": "shapes", "source": "imagefolder:shapes", "image_size": 32}]


def compared(folder: Path, first: MadeUp, second: MadeUp) -> Comparison:
    paths = (first.write(folder / "first"), second.write(folder / "second"))
    return compare(*(load_material([path], epochs=False) for path in paths))


def small(changes: Changes | None = None, **experiment: Any) -> MadeUp:  # noqa: ANN401 - keys of an experiment
    made = {"datasets": ONE_SIZE, **experiment}
    return MadeUp(experiment=made) if changes is None else MadeUp(experiment=made, changes=changes)


def worse_probe(trial: Trial) -> Mapping[str, Any]:
    lost = 0.2 if trial.strategy.name == "linear-probe" else 0
    return {"test_accuracy": accuracy_of(trial) - lost, "val_accuracy": accuracy_of(trial) - lost}


def printed(comparison: Comparison, width: int = 100) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(comparison_view(comparison))
    return capture.get()


def point_of(comparison: Comparison, label: str) -> str:
    return next(point.text for point in comparison.conditions if point.label == label)


def test_a_run_does_not_differ_from_itself(made_up: Path) -> None:
    material = load_material([made_up], epochs=False)
    comparison = compare(material, material)
    assert len(comparison.shared) == 12
    assert comparison.shared["difference"].abs().max() == 0
    assert not comparison.shared["told_apart"].any()
    assert comparison.fairness == FAIR
    assert comparison.headline == "Of the 12 configurations that both hold, none can be told apart."
    assert comparison.first != ""


def test_what_got_worse_is_told_apart_and_what_did_not_is_not(tmp_path: Path) -> None:
    comparison = compared(tmp_path, small(), small(worse_probe))
    rows = comparison.shared.set_index(["model", "strategy"])
    assert rows["told_apart"].groupby("strategy").all().to_dict() == {"linear-probe": True, "fine-tune": False}
    assert (rows["difference"].xs("linear-probe", level="strategy") < -0.1).all()
    assert (rows["low"] <= rows["difference"]).all()
    assert (rows["difference"] <= rows["high"]).all()
    assert "0 are more accurate in B, 2 less; 2 cannot be told apart" in comparison.headline


def test_what_only_one_holds_is_named(tmp_path: Path) -> None:
    comparison = compared(tmp_path, small(models=["resnet8"]), small(models=["resnet8", "resnet20"]))
    assert comparison.only_first == ()
    assert len(comparison.only_second) == 2
    assert all("resnet20" in name for name in comparison.only_second)
    assert "Only in B" in printed(comparison)


def test_other_settings_are_named_and_make_it_unfair(tmp_path: Path) -> None:
    other = {"epochs": 3, "batch_size": 64, "optimizer": "sgd"}
    comparison = compared(tmp_path, small(), small(training=other))
    text = point_of(comparison, "Training settings")
    assert "batch_size 32 against 64" in text
    assert "optimizer adam against sgd" in text
    assert comparison.fairness == UNFAIR
    assert point_of(comparison, "Versions") == "The same."


def test_models_that_were_computed_in_another_way_make_it_unfair(tmp_path: Path) -> None:
    materials = []
    for name, tuning in (("first", Tuning(bfloat16=True)), ("second", Tuning(bfloat16=True, channels_last=True))):
        material = load_material([small().write(tmp_path / name)], epochs=False)
        steps = {"A10G": {"resnet8, 32 px": Step(tuning=tuning, images_per_second=1.0)}}
        runs = tuple(replace(run, chosen=Choices(steps=steps)) for run in material.runs)
        materials.append(replace(material, runs=runs))
    comparison = compare(*materials)
    text = point_of(comparison, "Computed")
    assert text.startswith("Not the same: resnet8, 32 px (A10G) bfloat16 against channels last and bfloat16; losses")
    assert comparison.fairness == UNFAIR
    assert point_of(compare(materials[0], materials[0]), "Computed") == "The same."


SEEDS = {
    "fewer in A": ([0, 1], [0, 1, 2], (2, 2, 3), "A and B are means over the 2 seeds that both have (B has 3)."),
    "some of either": ([0, 1, 2], [1, 2, 3], (2, 3, 3), "over the 2 seeds that both have (A has 3 and B has 3)."),
    "one in A": ([1], [0, 1, 2], (1, 1, 3), "over the one seed that both have (B has 3)."),
    "one of several": ([0, 1], [1, 2], (0, 2, 2), "A and B are means over all seeds that each has."),
    "none": ([0, 1], [2, 3, 4], (0, 2, 3), "A and B are means over all seeds that each has."),
    "the same": ([0, 1], [1, 0], (2, 2, 2), "A and B are means over the 2 seeds that both have. B - A"),
}


@pytest.mark.parametrize(("ours", "theirs", "counts", "note"), SEEDS.values(), ids=SEEDS)
def test_accuracies_are_those_of_the_seeds_compared_so_that_they_and_their_difference_agree(
    ours: list[int], theirs: list[int], counts: tuple[int, int, int], note: str, tmp_path: Path
) -> None:
    def by_seed(trial: Trial) -> Mapping[str, Any]:
        return {"test_accuracy": 0.6 + 0.1 * (trial.seed % 3)}

    comparison = compared(tmp_path, small(by_seed, seeds=ours), small(by_seed, seeds=theirs))
    rows = comparison.shared
    assert (rows["second"] - rows["first"]).to_list() == pytest.approx(rows["difference"].to_list())
    for row in rows[["seeds", "first_seeds", "second_seeds"]].itertuples(index=False):
        assert tuple(row) == counts
    assert note in " ".join(printed(comparison).split())


def test_a_configuration_without_some_seeds_has_a_count_of_its_own(tmp_path: Path) -> None:
    def unfinished(trial: Trial) -> Mapping[str, Any] | None:
        return None if trial.model.name == "resnet8" and trial.seed == 2 else {}

    text = " ".join(printed(compared(tmp_path, small(unfinished), small())).split())
    assert "A and B are means over the seeds that both have (B has more of some)." in text


def test_seeds_that_one_alone_has_are_named(tmp_path: Path) -> None:
    more = compared(tmp_path / "more", small(seeds=[0, 1]), small(seeds=[0, 1, 2]))
    assert point_of(more, "Seeds") == "Not the same: seed 2 is only in B; seeds 0 and 1 are in both."
    assert more.fair, "it is the shared seeds that are compared"
    other = compared(tmp_path / "other", small(seeds=list(range(12))), small(seeds=[20]))
    assert "seeds 0, 1, 2, 3, 4, 5, 6, 7 and 4 more are only in A and seed 20 is only in B" in point_of(other, "Seeds")
    assert not other.fair
    assert point_of(other, "Training settings") == "The same for what both hold."
    assert point_of(compared(tmp_path / "same", small(), small()), "Seeds") == "The same."


def test_other_images_make_it_unfair(tmp_path: Path) -> None:
    first, second = small(), MadeUp(experiment={"datasets": ONE_SIZE}, images=200)
    comparison = compared(tmp_path, first, second)
    assert comparison.fair, "the fingerprint says whether images are the same, and it is"
    other = {"datasets": [{**ONE_SIZE[0], "name": "discs"}]}
    assert compared(tmp_path / "other", first, MadeUp(experiment=other)).shared.empty


def test_other_prices_are_named(tmp_path: Path) -> None:
    comparison = compared(tmp_path, small(), small(price_per_hour_usd={"local": 0.8}))
    assert "local $0.4/h against $0.8/h" in point_of(comparison, "Prices")


def test_nothing_in_common_is_said(made_up: Path) -> None:
    materials = [load_material([path], epochs=False) for path in (made_up, STUDY)]
    comparison = compare(*materials)
    assert "nothing can be compared" in comparison.headline
    assert comparison.fairness == ""
    assert "B is a table" in point_of(comparison, "Conditions")


@pytest.mark.parametrize("statuses", [[Status.FAILED], [Status.STOPPED], [Status.COMPLETED, Status.STOPPED]])
def test_seeds_that_did_not_complete_tell_nothing_apart(statuses: Sequence[Status], tmp_path: Path) -> None:
    def ended(trial: Trial) -> Mapping[str, Any]:
        return {"status": statuses[trial.seed % len(statuses)]}

    comparison = compared(tmp_path, small(), small(ended))
    assert comparison.shared["told_apart"].isna().all()
    assert "?" in printed(comparison)


def test_picks_are_compared_where_both_have_one(tmp_path: Path) -> None:
    comparison = compared(tmp_path, small(), small(worse_probe))
    assert [point.label for point in comparison.picks] == ["shapes, 800 training images"]


def test_hostile_names_are_harmless_on_page_and_terminal(hostile: Path, tmp_path: Path) -> None:
    again = HOSTILE.write(tmp_path / "again")
    comparison = compare(*(load_material([path], epochs=False) for path in (hostile, again)))
    page = render_comparison(comparison)
    assert "<script>document.title" not in page
    assert "\x1b[31m" not in printed(comparison).replace("\x1b[0m", "")
    assert "x" * 70 not in printed(comparison)


def test_page_needs_no_plotly_and_holds_every_row(made_up: Path) -> None:
    material = load_material([made_up], epochs=False)
    page = render_comparison(compare(material, material))
    assert len(page) < 100_000
    assert page.count("resnet20 fine-tune") >= 3
