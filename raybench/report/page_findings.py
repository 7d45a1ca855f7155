"""What is worked out once for a page: material in; values, gains and curves out.

Curves take about half a second a configuration, so those of the best configurations are fitted and no others.
"""

from dataclasses import dataclass
from functools import partial

import pandas as pd

from raybench.curves import MORE_IMAGES_COLUMNS, PREDICTION_COLUMNS, more_images, predictions
from raybench.gains import AVERAGE_COLUMNS, GAIN_COLUMNS, average_gains, gains
from raybench.report.page_material import Material, accuracy_column
from raybench.value import VALUE_COLUMNS, value

PREDICTIONS = 1_000_000
"""Predictions that the cost of using a model is quoted for."""
MOST_CURVES = 8
"""Configurations of each dataset whose curves are fitted."""
MOST_COMPARED = 400
"""Configurations up to which gains are worked out: their pairs are many."""
LINE = ["dataset", "model", "weights", "strategy"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Findings:
    """What is worked out of a material."""

    worth: pd.DataFrame
    """`raybench.value.value` within each size, charged with training; its inference cost is of `PREDICTIONS`."""
    overall: pd.DataFrame
    """The same over all sizes of a dataset; empty where no dataset has several."""
    gains: pd.DataFrame
    average_gains: pd.DataFrame
    curves: pd.DataFrame
    """`raybench.curves.predictions`."""
    more_images: pd.DataFrame


def find(material: Material) -> Findings:
    """Work out what a page says of a material; tables are empty where there is nothing to work with."""
    ranking, results, source = material.ranking, material.results, material.source
    if ranking.empty:
        return Findings(
            worth=_table(VALUE_COLUMNS),
            overall=_table(VALUE_COLUMNS),
            gains=_table(GAIN_COLUMNS),
            average_gains=_table(AVERAGE_COLUMNS),
            curves=_table(PREDICTION_COLUMNS),
            more_images=_table(MORE_IMAGES_COLUMNS),
        )
    several = bool(ranking.groupby("dataset")["train_size"].nunique().gt(1).any())
    few = len(ranking) <= MOST_COMPARED
    worth = partial(
        value, results, outcomes=source.outcomes, test_images=source.test_images, val_images=source.val_images
    )
    fitted = best_lines(material) if several else results.iloc[:0]
    return Findings(
        worth=worth(predictions=PREDICTIONS),
        overall=worth(across_sizes=True) if several else _table(VALUE_COLUMNS),
        gains=gains(results, outcomes=source.outcomes, test_images=source.test_images) if few else _table(GAIN_COLUMNS),
        average_gains=average_gains(results, outcomes=source.outcomes, test_images=source.test_images)
        if few
        else _table(AVERAGE_COLUMNS),
        curves=predictions(fitted) if len(fitted) else _table(PREDICTION_COLUMNS),
        more_images=more_images(fitted) if len(fitted) else _table(MORE_IMAGES_COLUMNS),
    )


def best_lines(material: Material) -> pd.DataFrame:
    """The trials of the most accurate configurations of each dataset, at all sizes."""
    ranking = material.ranking
    ordered = ranking.assign(accuracy=ranking[accuracy_column(ranking)].astype(float)).sort_values(
        ["train_size", "accuracy"], ascending=False, na_position="last"
    )
    # A pick stands first, so that what is advised has its curve.
    ordered = ordered.sort_values("pick", ascending=False, kind="stable")
    best = ordered.drop_duplicates(LINE).groupby("dataset", sort=False).head(MOST_CURVES)[LINE]
    found: pd.DataFrame = material.results.merge(best, on=LINE, how="inner")
    return found


def _table(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=columns)
