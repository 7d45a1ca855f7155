"""What to do next, and what that costs: material of one dataset and train_size in, one point out.

In this order: finish what is not finished; give every configuration three seeds; tell the pick from what it is tied
with, by more seeds or more test images, whichever of the two is the larger doubt; try more data.
"""

import math
from dataclasses import dataclass

import pandas as pd

from raybench.alike import trials_of
from raybench.formats import duration_text, is_missing, money_text
from raybench.mirror import place_of
from raybench.records import Status
from raybench.report.advice import configuration_name
from raybench.report.page_material import Material
from raybench.report.page_parts import Point
from raybench.report.page_trust import ENOUGH_SEEDS
from raybench.scores import scores_of
from raybench.stats import Scores, difference_interval

MOST_SEEDS = 30
"""More seeds than this are not worth telling two configurations apart."""
MOST_IMAGES_FACTOR = 100
"""A test split this many times larger is no advice."""
Z = 1.96 + 0.84
"""Of a two-sided test at 5 % that finds a difference four times out of five."""


def next_step(material: Material, group: pd.DataFrame) -> Point | None:
    """Return the one thing that would make the answer surer, with its price."""
    text = _finish(material) or _seeds(material, group) or _tell_apart(material, group) or _data(material, group)
    return None if text is None else Point(label="Next", text=text)


def _finish(material: Material) -> str | None:
    if not material.runs or "status" not in material.results:
        return None
    counts = material.results["status"].astype(str).value_counts()
    run = place_of(material.runs[0].run_dir)
    left = int(counts.get(Status.UNFINISHED.value, 0))
    if left:
        price = _price(_typical(material.results) * left)
        return f"Finish the run: {left} of {counts.sum()} trials are left{price}. raybench resume {run}"
    failed = int(counts.get(Status.FAILED.value, 0))
    if failed:
        return (
            f"{failed} of {counts.sum()} trials failed; raybench show {run} says why, and raybench resume {run} "
            f"--retry-failed trains them again{_price(_typical(material.results) * failed)}."
        )
    return None


def _seeds(material: Material, group: pd.DataFrame) -> str | None:
    if group.empty or int(group["seeds"].max()) >= ENOUGH_SEEDS:
        return None
    # More seeds in the file are more seeds at every size.
    whole = material.ranking if material.runs else group
    missing = (ENOUGH_SEEDS - whole["seeds"].astype(int)).clip(lower=0)
    cost = _cost_of(whole, missing)
    fewest = int(group["seeds"].min())
    how = (
        "Write seeds: [0, 1, 2] into the experiment file and run it again"
        if material.runs
        else "Add one row a seed, in a seed column"
    )
    said = "one says nothing" if fewest == 1 else "two say little"
    return (
        f"Train every configuration with {ENOUGH_SEEDS} seeds: {said} of how far seeds scatter. "
        f"{how}: {missing.sum()} more trials{_price(cost)}."
    )


def _tell_apart(material: Material, group: pd.DataFrame) -> str | None:
    """Tell the pick from the best of those it is tied with."""
    pick = next((row for _, row in group[group["pick"].astype(bool)].iterrows()), None)
    if pick is None or is_missing(pick["tie_group"]) or group["test_accuracy"].isna().all():
        return None
    tied = group[(group["tie_group"] == pick["tie_group"]).fillna(value=False) & (group.index != pick.name)]
    if tied.empty:
        return None
    rival = tied.sort_values("test_accuracy", ascending=False).iloc[0]
    gap = abs(float(pick["test_accuracy"]) - float(rival["test_accuracy"]))
    pair = f"{configuration_name(pick, group)} and {configuration_name(rival, group)}"
    if gap == 0:
        return f"Nothing, for these two: {pair} score the same. Take the cheaper one."
    ours, theirs = (_scores(material, row) for row in (pick, rival))
    needed = _needed(ours, theirs, gap)
    if needed.images:
        return (
            f"A larger test split: {pair} differ by {100 * gap:.1f} points, and telling that apart takes about "
            f"{_rounded(needed.images)} test images in place of {ours.images}. It costs labels, but no training."
        )
    if needed.seeds:
        more = max(1, needed.seeds - len(ours.seeds))
        cost = _cost_of(group.loc[[pick.name, rival.name]], pd.Series(more, [pick.name, rival.name]))
        return (
            f"More seeds of two configurations: {pair} differ by {100 * gap:.1f} points, and telling that apart takes "
            f"about {len(ours.seeds) + more} seeds each, {2 * more} more trials{_price(cost)}."
        )
    return (
        f"Nothing, for these two: {pair} differ by {100 * gap:.1f} points, and telling so little apart would take far "
        "more seeds or test images than it is worth. Choose by cost."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Needed:
    """What tells two configurations apart; 0: not that, or not worth it."""

    images: int = 0
    """Test images, where they are the larger doubt."""
    seeds: int = 0


def _needed(ours: Scores, theirs: Scores, gap: float) -> _Needed:
    """How many test images or seeds show a gap four times out of five: half of the variance is granted to each."""
    allowed = (gap / Z) ** 2 / 2
    alone = difference_interval(_without_images(ours), _without_images(theirs)).standard_error
    from_seeds = 0.0 if is_missing(alone) else alone**2
    error = difference_interval(ours, theirs).standard_error
    from_images = 0.0 if is_missing(error) else max(0.0, error**2 - from_seeds)
    if from_images > allowed and ours.images:
        images = math.ceil(ours.images * from_images / allowed)
        return _Needed(images=images if images <= MOST_IMAGES_FACTOR * ours.images else 0)
    seeds = math.ceil(len(ours.seeds) * from_seeds / allowed)
    return _Needed(seeds=seeds if seeds <= MOST_SEEDS else 0)


def _data(material: Material, group: pd.DataFrame) -> str | None:
    """More of the images that there are."""
    if group.empty:
        return None
    facts = material.facts_of(str(group["dataset"].iloc[0]))
    size = group["train_size"].iloc[0]
    if facts is None or is_missing(size) or size >= facts.train_images:
        return None
    return (
        f"More data: {facts.train_images} training images are there, and the largest size that was run is {size}. "
        f"Add it to train_sizes."
    )


def _scores(material: Material, row: pd.Series) -> Scores:
    """Scores of one configuration on the test split."""
    own = trials_of(material.results, row)
    return scores_of(
        own["seed"] if "seed" in own else [0] * len(own),
        own["test_accuracy"],
        own["trial_id"] if "trial_id" in own else [""] * len(own),
        material.source.outcomes,
        material.test_images.get(str(row["dataset"])),
    )


def _without_images(scores: Scores) -> Scores:
    return Scores(seeds=scores.seeds, accuracies=scores.accuracies)


def _cost_of(group: pd.DataFrame, trials: pd.Series) -> pd.Series:
    """USD and seconds of so many more trials of each configuration; NaN where one is unknown."""
    columns = ["standalone_cost_usd", "train_seconds"]
    return pd.Series({name: (group[name].astype(float) * trials).sum(min_count=len(group)) for name in columns})


def _typical(results: pd.DataFrame) -> pd.Series:
    """USD and seconds of a trial that ended, on average."""
    columns = ["standalone_cost_usd", "train_seconds"]
    return pd.Series({name: results[name].astype(float).mean() if name in results else math.nan for name in columns})


def _price(cost: pd.Series) -> str:
    """`, about 5 min and $0.12`: whatever of it is known."""
    parts = [] if is_missing(cost["train_seconds"]) else [f"{duration_text(cost['train_seconds'])} of training"]
    if not is_missing(cost["standalone_cost_usd"]):
        parts.append(money_text(cost["standalone_cost_usd"]))
    return f", about {' and '.join(parts)}" if parts else ""


def _rounded(number: int) -> str:
    """Two significant digits, for a number that is a guess."""
    digits = len(str(number)) - 2
    return f"{round(number, -digits):,}" if digits > 0 else str(number)
