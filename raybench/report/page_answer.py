"""The first screen: which configuration to use, what it costs, how sure that is, and what cannot be told apart."""

from collections.abc import Iterator

import pandas as pd

from raybench.formats import (
    capitalized,
    duration_text,
    is_missing,
    joined,
    money_text,
    percent_text,
    probability_text,
    safe_text,
    shortened,
    usd_text,
)
from raybench.report.advice import MOST_LETTERS, configuration_name, group_name
from raybench.report.figures_value import frontier_figure
from raybench.report.page_classes import weakest_class
from raybench.report.page_data import one_more_point
from raybench.report.page_findings import PREDICTIONS, Findings
from raybench.report.page_material import Material, accuracy_column, groups_of, trials_of
from raybench.report.page_next import next_step
from raybench.report.page_parts import Answer, Mood, Point
from raybench.report.page_picks import interval_text, picks_table
from raybench.report.page_trust import trust_points
from raybench.value import CostUnit

MOST_TIED = 4
"""Configurations named as not to be told apart from the pick; the rest are counted."""
ANSWER_FIGURE = "figure-frontier"
LARGE_SPLIT = 2000
"""Test images from which on a second decimal of a percentage means something."""


def main_group(ranking: pd.DataFrame) -> pd.DataFrame:
    """The largest train_size of the first dataset: what the first screen is about."""
    first = [group for group in groups_of(ranking) if group["dataset"].iloc[0] == ranking["dataset"].iloc[0]]
    return max(first, key=lambda group: -1 if is_missing(group["train_size"].iloc[0]) else group["train_size"].iloc[0])


def answer(material: Material, findings: Findings) -> Answer:
    """Return what the first screen says."""
    ranking = material.ranking
    if ranking.empty:
        return _no_answer("no trial has ended yet, so there is nothing to compare", material)
    group = main_group(ranking)
    picks = group[group["pick"].astype(bool)]
    figure = frontier_figure(group, name=ANSWER_FIGURE, title="Cost against accuracy")
    compared = "1 configuration" if len(group) == 1 else f"{len(group)} configurations"
    question = f"Of {compared} compared on {group_name(group.iloc[0])}:"
    if picks.empty:
        reason = _why_no_pick(group)
        headline, detail, points = f"No configuration can be advised: {reason}.", "", _what_is_known(group)
    else:
        pick = picks.iloc[0]
        doubt = ", but nothing says how sure that is" if is_missing(pick["tie_group"]) else ""
        headline, detail = f"Use {configuration_name(pick, group)}{doubt}.", _spelled_out(pick)
        points = [
            _accuracy_point(pick, material),
            _training_cost_point(pick),
            _use_cost_point(pick, material, findings),
            *_weakest_points(pick, material),
            *_tied_points(pick, group),
            *_chance_points(pick, group),
            *_more_data_points(pick, findings),
        ]
    return Answer(
        question=question,
        headline=headline,
        detail=detail,
        points=points,
        figure=figure,
        trust=trust_points(material, group),
        next_step=next_step(material, group),
        others=picks_table(material, findings),
    )


HOW = {
    "linear-probe": "backbone frozen, head trained",
    "fine-tune": "all layers trained",
    "lp-ft": "head first, then all layers at a low learning rate",
}
"""What built-in strategies do."""


def _spelled_out(row: pd.Series) -> str:
    """Model, strategy and weights by name, for readers who do not know which is which."""
    strategy = safe_text(row["strategy"])
    base, _, augmented = strategy.partition("+")
    how = [HOW.get(base, ""), "with augmented images" if augmented == "augment" else ""]
    about = ", ".join(filter(None, how))
    weights = safe_text(row["weights"])
    parts = [
        f"model {shortened(safe_text(row['model']), MOST_LETTERS)}",
        f"strategy {shortened(strategy, MOST_LETTERS)}" + (f" ({about})" if about else "") if strategy else "",
        f"starting from {shortened(weights, MOST_LETTERS)} weights" if weights else "",
    ]
    return capitalized("; ".join(filter(None, parts))) + "."


def digits_for(images: int | None) -> int:
    """Decimals of a percentage that so many test images can show."""
    return 1 if images is None or images < LARGE_SPLIT else 2


def _no_answer(reason: str, material: Material) -> Answer:
    return Answer(
        question=material.name,
        headline=f"Nothing can be concluded: {reason}.",
        detail="",
        points=[],
        figure=None,
        trust=[],
        next_step=next_step(material, material.ranking),
        others=None,
    )


def _why_no_pick(group: pd.DataFrame) -> str:
    if (group["stopped"] > 0).all():
        return "none has completed all of its seeds"
    return "none that completed its seeds has a known accuracy"


def _what_is_known(group: pd.DataFrame) -> list[Point]:
    """What a reader may take from a group without a pick: the best lower bound."""
    column = accuracy_column(group)
    known = group[group[column].notna()]
    if known.empty:
        return []
    best = known.sort_values(column, ascending=False).iloc[0]
    text = f"{configuration_name(best, group)}: {percent_text(best[column])}, from the seeds that were scored."
    return [Point(label="Highest so far", text=text, mood=Mood.CARE)]


def _accuracy_point(pick: pd.Series, material: Material) -> Point:
    images = material.test_images.get(str(pick["dataset"]))
    digits = digits_for(images)
    if is_missing(pick["test_accuracy"]):
        text = f"{percent_text(pick['val_accuracy'], digits)} of validation images right. No test images were scored."
        return Point(label="Accuracy", text=text, mood=Mood.CARE)
    text = f"{percent_text(pick['test_accuracy'], digits)} of test images right"
    interval = interval_text(pick, digits)
    seeds = "1 seed" if pick["seeds"] == 1 else f"{pick['seeds']} seeds"
    if not interval:
        return Point(label="Accuracy", text=f"{text} ({seeds}). How far chance moves this is unknown.", mood=Mood.CARE)
    if pick["seeds"] == 1:
        covers = f"covers {images} test images, not what another seed would give" if images else "covers test images"
        return Point(label="Accuracy", text=f"{text}; 95 % interval {interval}, which {covers}.", mood=Mood.CARE)
    over = f"{seeds} and {images} test images" if images else f"{seeds}; the number of test images is unknown"
    return Point(label="Accuracy", text=f"{text}; 95 % interval {interval} ({over}).")


def _training_cost_point(row: pd.Series) -> Point:
    time = "" if is_missing(row["train_seconds"]) else f"{duration_text(row['train_seconds'])} of training"
    usd = row["standalone_cost_usd"]
    if is_missing(usd) and not time:
        return Point(label="Cost to train", text="Unknown: neither times nor prices are known.", mood=Mood.CARE)
    if is_missing(usd):
        text = f"{time}. In USD unknown, because no price of the machine is given (price_per_hour_usd)."
        return Point(label="Cost to train", text=capitalized(text), mood=Mood.CARE)
    search = row.get("search_cost_usd")
    with_search = "" if is_missing(search) else f", {money_text(search)} of it for choosing its learning rate"
    text = f"{money_text(usd)}{with_search}" + (f"; {time}." if time else ".")
    return Point(label="Cost to train", text=capitalized(text))


def _use_cost_point(row: pd.Series, material: Material, findings: Findings) -> Point:
    latency, speed = row["inference_latency_seconds"], row["inference_images_per_second"]
    worth = trials_of(findings.worth, row)
    said = []
    if len(worth) and worth["unit"].iloc[0] == CostUnit.USD and not is_missing(worth["inference_cost"].iloc[0]):
        said.append(f"{money_text(worth['inference_cost'].iloc[0])} for {PREDICTIONS:,} images")
    if not is_missing(speed):
        said.append(f"{speed:,.0f} images a second in batches")
    if not is_missing(latency):
        said.append(f"{1000 * latency:.2g} ms for one image alone")
    if said:
        return Point(label="Cost to use", text=capitalized(f"{'; '.join(said)}."))
    if not material.runs:
        return Point(label="Cost to use", text="Not in this table.")
    return Point(label="Cost to use", text=f"Not measured; raybench models {safe_text(row['model'])} --measure does.")


def _more_data_points(pick: pd.Series, findings: Findings) -> list[Point]:
    """What more images would bring, where several sizes were run."""
    found = trials_of(findings.more_images, pick, ("dataset", "model", "weights", "strategy"))
    if found.empty:
        return []
    text = one_more_point(found.iloc[0])
    known = not is_missing(found["reachable"].iloc[0])
    return [Point(label="One more point" if known else "More data", text=text)]


def _weakest_points(row: pd.Series, material: Material) -> list[Point]:
    weakest = weakest_class(material, row)
    if weakest is None:
        return []
    text = f"“{weakest.name}”: {percent_text(weakest.recall)} of its test images are recognised."
    return [Point(label="Weakest class", text=text)]


def _tied_points(pick: pd.Series, group: pd.DataFrame) -> Iterator[Point]:
    """What is better by more than chance, and what cannot be told apart from the pick."""
    title = "Not told apart"
    if is_missing(pick["tie_group"]):
        text = "Unknown: nothing says how far chance moves these accuracies."
        yield Point(label=title, text=text, mood=Mood.CARE)
        return
    column = accuracy_column(group)
    same = group[(group["tie_group"] == pick["tie_group"]).fillna(value=False) & (group.index != pick.name)]
    better = group[(group["tie_group"] < pick["tie_group"]).fillna(value=False)]
    if len(better):
        text = f"{_listed(better, group, column)}: by more than chance explains, but dearer or worse on val."
        yield Point(label="More accurate", text=text, mood=Mood.CARE)
    if len(same):
        yield Point(label=title, text=f"{_listed(same, group, column)}.")
    elif len(group) == 1:
        text = "It is the only configuration, so it was compared with none."
        yield Point(label=title, text=text, mood=Mood.CARE)
    elif better.empty:
        text = "It stands apart from all others that completed."
        yield Point(label=title, text=text, mood=Mood.GOOD)


def _chance_points(pick: pd.Series, group: pd.DataFrame) -> list[Point]:
    """How probably the pick is the best of all, and what is more probably so."""
    if is_missing(pick["p_best"]):
        return []
    text = f"With probability {probability_text(pick['p_best'])}"
    likeliest = group.sort_values("p_best", ascending=False, kind="stable").iloc[0]
    if likeliest["p_best"] > pick["p_best"]:
        text += f"; {configuration_name(likeliest, group)} with {probability_text(likeliest['p_best'])}"
    return [Point(label="Best of all", text=f"{text}.")]


def _listed(rows: pd.DataFrame, group: pd.DataFrame, column: str) -> str:
    shown = rows if len(rows) <= MOST_TIED else rows.iloc[: MOST_TIED - 1]
    names = [
        f"{configuration_name(row, group)} ({percent_text(row[column])}{_cost_after(row)})"
        for _, row in shown.iterrows()
    ]
    if len(shown) < len(rows):
        names.append(f"{len(rows) - len(shown)} more")
    return joined(names)


def _cost_after(row: pd.Series) -> str:
    if not is_missing(row["standalone_cost_usd"]):
        return f", {usd_text(row['standalone_cost_usd'])}"
    return "" if is_missing(row["train_seconds"]) else f", {duration_text(row['train_seconds'])}"
