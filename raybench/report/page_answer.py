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
    safe_text,
    usd_text,
)
from raybench.report.advice import configuration_name, group_name
from raybench.report.figures_value import frontier_figure
from raybench.report.page_classes import weakest_class
from raybench.report.page_data import one_more_point
from raybench.report.page_findings import PREDICTIONS, Findings
from raybench.report.page_material import Material, accuracy_column, groups_of, trials_of
from raybench.report.page_next import next_step
from raybench.report.page_parts import Answer, Cell, Column, Mood, Point, Row, Table, cells
from raybench.report.page_trust import trust_points
from raybench.value import CostUnit

MOST_TIED = 4
"""Configurations named as not to be told apart from the pick; the rest are counted."""
ANSWER_FIGURE = "figure-frontier"
MOST_PICKS = 24
LARGE_SPLIT = 2000
"""Test images from which on a second decimal of a percentage means something."""


def main_group(ranking: pd.DataFrame) -> pd.DataFrame:
    """The largest train_size of the first dataset: what the first screen is about."""
    first = [group for group in groups_of(ranking) if group["dataset"].iloc[0] == ranking["dataset"].iloc[0]]
    return max(first, key=lambda group: -1 if is_missing(group["train_size"].iloc[0]) else group["train_size"].iloc[0])


def group_anchor(material: Material, group: pd.DataFrame) -> str:
    """Where the page holds the ranking of a group."""
    first = group.iloc[0]
    places = [
        place
        for place, each in enumerate(groups_of(material.ranking))
        if group_name(each.iloc[0]) == group_name(first) and each.index[0] == group.index[0]
    ]
    return f"ranking-{places[0] if places else 0}"


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
        headline, points = f"No configuration can be advised: {reason}.", _what_is_known(group)
    else:
        pick = picks.iloc[0]
        headline = f"Use {configuration_name(pick, group)}."
        points = [
            _accuracy_point(pick, material),
            _training_cost_point(pick),
            _use_cost_point(pick, material, findings),
            *_weakest_points(pick, material),
            *_tied_points(pick, group),
            *_more_data_points(pick, findings),
        ]
    return Answer(
        question=question,
        headline=headline,
        points=points,
        figure=figure,
        trust=trust_points(material, group),
        next_step=next_step(material, group),
        others=_picks_table(material, findings),
    )


def digits_for(images: int | None) -> int:
    """Decimals of a percentage that so many test images can show."""
    return 1 if images is None or images < LARGE_SPLIT else 2


def interval_text(row: pd.Series, digits: int = 1) -> str:
    """The ends of the interval of a row's accuracy: `98.3 % to 99.9 %`; nothing where there is none."""
    low, high = row["test_accuracy_low"], row["test_accuracy_high"]
    if is_missing(low) or is_missing(high):
        return ""
    return _ends(low, high, digits)


def _ends(low: float, high: float, digits: int = 1) -> str:
    return f"{percent_text(low, digits)} to {percent_text(high, digits)}"


def _no_answer(reason: str, material: Material) -> Answer:
    return Answer(
        question=material.name,
        headline=f"Nothing can be concluded: {reason}.",
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


def _picks_table(material: Material, findings: Findings) -> Table | None:
    """The pick of each dataset and train_size, where there is more than one."""
    groups = groups_of(material.ranking)
    if len(groups) < 2:  # noqa: PLR2004 - one is the answer itself
        return None
    return Table(
        caption="The pick of each dataset and size",
        columns=[
            Column(text="trained on", is_name=True),
            Column(text="pick", is_name=True),
            Column(text="accuracy"),
            Column(text="95 % interval"),
            Column(text="cost to train"),
        ],
        rows=[
            *(_pick_row(material, group) for group in groups[:MOST_PICKS]),
            *(_overall_row(row, findings.overall) for _, row in _overall_picks(findings).iterrows()),
        ],
        notes=[f"The first {MOST_PICKS} of {len(groups)}."] if len(groups) > MOST_PICKS else [],
    )


def _overall_picks(findings: Findings) -> pd.DataFrame:
    """The pick over all sizes of each dataset that has several."""
    overall = findings.overall
    return overall[overall["pick"].fillna(value=False).astype(bool)]


def _overall_row(row: pd.Series, overall: pd.DataFrame) -> Row:
    text = usd_text if row["unit"] == CostUnit.USD else duration_text
    images = "" if is_missing(row["train_size"]) else f", {row['train_size']} images"
    interval = "" if is_missing(row["accuracy_low"]) else _ends(row["accuracy_low"], row["accuracy_high"])
    return Row(
        cells=cells(
            f"{safe_text(row['dataset'])}, best value of all sizes",
            f"{configuration_name(row, overall)}{images}",
            percent_text(row["accuracy"]),
            interval,
            text(row["cost"]),
        ),
        kind="pick",
    )


def _pick_row(material: Material, group: pd.DataFrame) -> Row:
    place = Cell(text=group_name(group.iloc[0]), link=group_anchor(material, group))
    picks = group[group["pick"].astype(bool)]
    if picks.empty:
        return Row(cells=[place, *cells("none: no configuration completed", "", "", "")])
    pick = picks.iloc[0]
    column = accuracy_column(group)
    cost = usd_text(pick["standalone_cost_usd"])
    cost = duration_text(pick["train_seconds"]) if is_missing(pick["standalone_cost_usd"]) else cost
    return Row(
        cells=[place, *cells(configuration_name(pick, group), percent_text(pick[column]), interval_text(pick), cost)]
    )
