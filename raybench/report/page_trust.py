"""Can the answer be trusted? Material of one dataset and train_size in, a short list of points out.

Each point says what was done, and stands out where a reader has to know it before relying on the answer. What a table
of somebody else's results does not tell is said to be unknown.
"""

import pandas as pd

from raybench.alike import trials_of
from raybench.formats import capitalized, is_missing, joined, safe_text
from raybench.pretraining import is_same, trained_on
from raybench.ranking import GROUP
from raybench.report.machines import kinds_of_machine
from raybench.report.page_material import Material
from raybench.report.page_parts import Mood, Point
from raybench.report.search_views import rate_sentences
from raybench.stats import detectable_gap
from raybench.trials import weights_label

ENOUGH_SEEDS = 3
FINE_GAP = 0.02
"""Differences in accuracy that a good test split can show."""
_DUPLICATES = "that are also in"
"""Words of preflight's warning on images that stand in two splits."""


def trust_points(material: Material, group: pd.DataFrame) -> list[Point]:
    """Return what speaks for and against relying on the ranking of one dataset and train_size."""
    points = [
        _seeds(material, group),
        _test_images(material, group),
        _chosen_on(group),
        _learning_rates(material),
        *_data(material, group),
        _endings(material, group),
        *_pretraining(material, group),
        *_machines(material, group),
        _how_read(material),
    ]
    return [point for point in points if point is not None]


def _how_read(material: Material) -> Point | None:
    notes = material.source.notes
    return Point(label="How it was read", text=safe_text(" ".join(notes))) if notes else None


def _seeds(material: Material, group: pd.DataFrame) -> Point:
    fewest, most = int(group["seeds"].min()), int(group["seeds"].max())
    facts = material.facts_of(str(group["dataset"].iloc[0]))
    whole = facts is not None and group["train_size"].iloc[0] == facts.train_images
    varies = "initial weights and order, not the images, for all of them are used" if whole else ""
    varies = varies or ("images, initial weights and order" if material.runs else "")
    after = f", each with its own {varies}" if varies else ""
    if most == 1:
        text = "One seed: how far another would land is unknown. No interval here covers it."
        return Point(label="Seeds", text=text, mood=Mood.CARE)
    if fewest != most:
        text = f"{fewest} to {most} a configuration{after}: those with fewer are known less well."
        return Point(label="Seeds", text=text, mood=Mood.CARE)
    if most < ENOUGH_SEEDS:
        return Point(label="Seeds", text=f"{most}{after}: few, so intervals are wide.", mood=Mood.CARE)
    return Point(label="Seeds", text=f"{most}{after}.", mood=Mood.GOOD)


def _test_images(material: Material, group: pd.DataFrame) -> Point:
    if group["test_accuracy"].isna().all():
        text = (
            "None were scored. Accuracies are of the val split, which early stopping has seen: they flatter a little."
        )
        return Point(label="Test images", text=text, mood=Mood.CARE)
    images = material.test_images.get(str(group["dataset"].iloc[0]))
    if not images:
        text = "Their number is unknown, so no interval covers them; --test-images N gives it."
        return Point(label="Test images", text=text, mood=Mood.CARE)
    gap = detectable_gap(images)
    if is_missing(gap):
        return Point(label="Test images", text=f"{images}: too few to tell two accuracies apart.", mood=Mood.CARE)
    text = (
        f"{images}, the same for all. Two single networks near 90 % must be {100 * gap:.1f} points apart to be told "
        "apart on so many; several seeds, compared image by image, do better."
    )
    return Point(label="Test images", text=text, mood=Mood.GOOD if gap <= FINE_GAP else Mood.PLAIN)


def _chosen_on(group: pd.DataFrame) -> Point | None:
    if not group["pick"].astype(bool).any() or group["test_accuracy"].isna().all():
        return None
    pick = group[group["pick"].astype(bool)].iloc[0]
    if is_missing(pick["val_accuracy"]):
        text = "On test accuracy, for want of a val accuracy: expect somewhat less of it on new images."
        return Point(label="Chosen", text=text, mood=Mood.CARE)
    text = (
        "As the cheapest of those within one standard error of the most accurate on validation images: its test "
        "accuracy is not the luck of the winner."
    )
    return Point(label="Chosen", text=text, mood=Mood.GOOD)


def _learning_rates(material: Material) -> Point:
    label = "Learning rates"
    if not material.runs:
        return Point(label=label, text="How they were chosen is not in this table.")
    text = " ".join(rate_sentences({run.run_dir.resolve().name: run.rates for run in material.runs}))
    equal = all(not run.rates.fixed and not run.rates.at_edge for run in material.runs)
    return Point(
        label=label, text=capitalized(text.removeprefix("Learning rates: ")), mood=Mood.GOOD if equal else Mood.CARE
    )


def _data(material: Material, group: pd.DataFrame) -> list[Point]:
    facts = material.facts_of(str(group["dataset"].iloc[0]))
    if facts is None:
        return [Point(label="Duplicates", text="Whether images stand in two splits is not in this table.")]
    twice = [safe_text(warning) for warning in facts.warnings if _DUPLICATES in warning]
    others = [safe_text(warning) for warning in facts.warnings if _DUPLICATES not in warning]
    points = [
        Point(label="Duplicates", text=f"{joined(twice)}: accuracies are flattered.", mood=Mood.CARE)
        if twice
        else Point(label="Duplicates", text="No image stands in two splits, compared by content.", mood=Mood.GOOD)
    ]
    return points + [Point(label="Data", text=f"{capitalized(text)}.", mood=Mood.CARE) for text in others]


def _endings(material: Material, group: pd.DataFrame) -> Point:
    label = "Stopped, failed"
    results = material.results
    if "status" not in results:
        return Point(label=label, text="Not in this table: every row counts as completed.")
    own = trials_of(results, group.iloc[0], GROUP)
    counts = own["status"].astype(str).value_counts()
    ended = [f"{counts[name]} {name}" for name in ("stopped", "failed", "unfinished") if name in counts]
    trials = f"{counts.sum()} trials{_of_which(material.ranking)}"
    if not ended:
        return Point(label=label, text=f"None: all {trials} ran to their end.", mood=Mood.GOOD)
    if set(counts.index) <= {"completed", "unfinished"}:
        text = f"None; {joined(ended)} of {trials}: configurations are compared by the seeds that have ended."
    else:
        text = (
            f"{joined(ended)} of {trials}. Configurations with a stopped or failed seed rank last and are not picked."
        )
    return Point(label=label, text=text, mood=Mood.CARE)


def _of_which(ranking: pd.DataFrame) -> str:
    """Of which part of the sources a list speaks, where that is not all of them: ` of this size`."""
    groups = ranking[GROUP].drop_duplicates()
    several = {"dataset": len(set(groups["dataset"])) > 1, "size": bool(groups["dataset"].duplicated().any())}
    names = [name for name, is_one_of_several in several.items() if is_one_of_several]
    return f" of this {joined(names)}" if names else ""


def _pretraining(material: Material, group: pd.DataFrame) -> list[Point]:
    """What the weights of the group saw before, and whether that may be the dataset itself."""
    labels = {str(name) for name in group["weights"] if not is_missing(name)}
    saw = {
        weights_label(facts.weights): images
        for run in material.runs
        for facts in run.facts.weights.values()
        if weights_label(facts.weights) in labels and (images := trained_on(facts)) is not None
    }
    if not saw:
        return []
    dataset = str(group["dataset"].iloc[0])
    sources = {each.source for run in material.runs for each in run.experiment.datasets if each.name == dataset}
    same = [name for name, images in saw.items() if is_same(images, dataset, sources)]
    if same:
        text = f"{joined([safe_text(name) for name in same])} weights saw this dataset before, which flatters."
        return [Point(label="Pretraining", text=text, mood=Mood.CARE)]
    listed = joined(
        [f"{safe_text(name)} weights were trained on {safe_text(data)} before" for name, data in saw.items()]
    )
    text = f"{capitalized(listed)}. Were your images among those, accuracies would be flattered; this is not checked."
    return [Point(label="Pretraining", text=text)]


def _machines(material: Material, group: pd.DataFrame) -> list[Point]:
    own = material.results[material.results["dataset"].eq(group["dataset"].iloc[0])]
    kinds = sorted({*kinds_of_machine(own)} - {""})
    if len(kinds) < 2:  # noqa: PLR2004 - one kind of device
        return []
    text = f"Trials ran on {joined(kinds)}: their times are not alike."
    return [Point(label="Devices", text=text, mood=Mood.CARE)]
