"""The first screen: which configuration to use, what it costs, how sure that is, and what cannot be told apart."""

import math

import pandas as pd

from raybench.alike import trials_of
from raybench.formats import (
    capitalized,
    duration_text,
    is_missing,
    joined,
    money_text,
    percent_text,
    safe_text,
    shortened,
    usd_text,
)
from raybench.report.advice import MOST_LETTERS, configuration_name, group_name
from raybench.report.figures_value import frontier_figure
from raybench.report.page_classes import weakest_class
from raybench.report.page_data import one_more_point
from raybench.report.page_doubt import rival_points, verdict
from raybench.report.page_findings import PREDICTIONS, Findings
from raybench.report.page_material import Material, accuracy_column, groups_of
from raybench.report.page_next import next_step
from raybench.report.page_parts import Answer, Mood, Point
from raybench.report.page_picks import interval_text, picks_table
from raybench.report.page_trust import trust_points
from raybench.value import CostUnit

ANSWER_FIGURE = "figure-frontier"
LARGE_SPLIT = 2000
"""Test images from which on a second decimal of a percentage means something."""
WIDE_INTERVAL = 0.01
"""Beside an interval wider than this, it does not."""


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
        headline, sure, detail, points = f"No configuration can be advised: {reason}.", None, "", _what_is_known(group)
    else:
        pick = picks.iloc[0]
        doubt = ", but nothing says how sure that is" if is_missing(pick["tie_group"]) else ""
        headline, detail = f"Use {configuration_name(pick, group)}{doubt}.", _spelled_out(pick)
        sure = verdict(pick, group, test_images=material.test_images.get(str(pick["dataset"])))
        points = [
            _accuracy_point(pick, material),
            _training_cost_point(pick, material),
            _use_cost_point(pick, material, findings),
            *_weakest_points(pick, material),
            *rival_points(pick, group),
            *_more_data_points(pick, ranking, findings),
        ]
    return Answer(
        question=question,
        headline=headline,
        verdict=sure,
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
NOT_PRETRAINED = {"random": ", so nothing was pretrained"}
"""What built-in weights are not."""


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
        f"starting from {shortened(weights, MOST_LETTERS)} weights" + NOT_PRETRAINED.get(weights, "")
        if weights
        else "",
    ]
    return capitalized("; ".join(filter(None, parts))) + "."


def digits_for(images: int | None) -> int:
    """Decimals of a percentage that so many test images can show."""
    return 1 if images is None or images < LARGE_SPLIT else 2


def _digits_of(pick: pd.Series, images: int | None) -> int:
    """Decimals of a percentage that mean something beside so wide an interval."""
    if is_missing(pick["test_accuracy_low"]):
        return digits_for(images)
    is_wide = pick["test_accuracy_high"] - pick["test_accuracy_low"] > WIDE_INTERVAL
    return 1 if is_wide else digits_for(images)


def _no_answer(reason: str, material: Material) -> Answer:
    return Answer(
        question=material.name,
        headline=f"Nothing can be concluded: {reason}.",
        verdict=None,
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
    digits = _digits_of(pick, images)
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
    over = f"{seeds}, {images} test images" if images else f"{seeds}; the number of test images is unknown"
    return Point(label="Accuracy", text=f"{text} on average; 95 % interval {interval} ({over}).")


def _training_cost_point(row: pd.Series, material: Material) -> Point:
    usd = row["standalone_cost_usd"]
    time = _training_time(row, material)
    if is_missing(usd) and not time:
        return Point(label="Cost to train", text="Unknown: neither times nor prices are known.", mood=Mood.CARE)
    if is_missing(usd):
        search = row.get("search_seconds")
        with_search = "" if is_missing(search) else f", and {duration_text(search)} for choosing its learning rate"
        text = f"{time}{with_search}. In USD unknown, because no price of the machine is given (price_per_hour_usd)."
        return Point(label="Cost to train", text=capitalized(text), mood=Mood.CARE)
    search = row.get("search_cost_usd")
    with_search = "" if is_missing(search) else f", {usd_text(search)} of it for choosing its learning rate"
    text = f"{money_text(usd)}{with_search}" + (f": {time}." if time else ".")
    return Point(label="Cost to train", text=capitalized(text))


def _training_time(row: pd.Series, material: Material) -> str:
    """`2.8 s on its own, on NVIDIA A10G at $1.01 an hour`: what the cost is made of, as far as it is known."""
    own = trials_of(material.results, row)
    alone = _mean_of(own, "standalone_seconds")
    seconds = row["train_seconds"] if is_missing(alone) else alone
    if is_missing(seconds):
        return ""
    how = " of training" if is_missing(alone) else " of training on its own"
    return f"{duration_text(seconds)}{how}{_where(own)}"


def _where(own: pd.DataFrame) -> str:
    """On which device trials ran, and at what price; nothing where they differ or say nothing."""
    names = {safe_text(name) for name in own["accelerator"].dropna()} if "accelerator" in own else set()
    place = {"cpu": "CPU"}.get(name := names.pop(), name) if len(names) == 1 else ""
    hours = [_mean_of(own, name) for name in ("standalone_seconds", "device_share", "standalone_cost_usd")]
    if any(is_missing(value) or value == 0 for value in hours):
        return f", on {place}" if place else ""
    seconds, share, usd = hours
    part = "" if share >= 1 else f" for {percent_text(share, 0)} of a machine"
    price = f"{usd_text(3600 * usd / seconds)} an hour{part}"
    return f", on {place} at {price}" if place else f", at {price}"


def _mean_of(own: pd.DataFrame, column: str) -> float:
    return float(own[column].astype(float).mean()) if column in own else math.nan


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


def _more_data_points(pick: pd.Series, ranking: pd.DataFrame, findings: Findings) -> list[Point]:
    """What more images brought, or would bring."""
    keys = ("dataset", "model", "weights", "strategy")
    found = trials_of(findings.more_images, pick, keys)
    if found.empty:
        return []
    text = one_more_point(found.iloc[0])
    if not is_missing(found["reachable"].iloc[0]):
        return [Point(label="One more point", text=text)]
    sizes = trials_of(ranking, pick, keys).sort_values("train_size")
    column = accuracy_column(sizes)
    sizes = sizes[sizes[column].notna() & sizes["train_size"].notna()]
    seen = joined([f"{percent_text(each[column])} with {each['train_size']}" for _, each in sizes.iterrows()])
    return [Point(label="More data", text=f"{capitalized(seen)} images. {text}" if len(sizes) > 1 else text)]


def _weakest_points(row: pd.Series, material: Material) -> list[Point]:
    weakest = weakest_class(material, row)
    if weakest is None:
        return []
    text = f"“{weakest.name}”: {percent_text(weakest.recall)} of its test images are recognised."
    return [Point(label="Weakest class", text=text)]
