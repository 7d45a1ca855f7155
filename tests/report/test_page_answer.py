"""Sentences of the first screen on what training costs and on what more images bring."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raybench.curves import more_images
from raybench.report.page import report_data
from raybench.report.page_data import one_more_point
from raybench.report.page_material import load_material


def points_of(table: pd.DataFrame, path: Path) -> dict[str, str]:
    table.to_csv(path, index=False)
    return {point.label: point.text for point in report_data(load_material([path])).answer.points}


def test_less_than_a_cent_is_said_once(tmp_path: Path) -> None:
    table = pd.DataFrame({"model": ["a", "b"], "test_accuracy": [0.9, 0.8], "train_seconds": [9.0, 8.0]})
    table["train_size"], table["standalone_cost_usd"] = 100, 0.00023
    table["search_cost_usd"], table["search_seconds"] = 0.00058, 5.0
    text = points_of(table, tmp_path / "t.csv")["Cost to train"]
    assert text.startswith("Less than a cent ($0.00081), $0.00058 of it for choosing its learning rate")


@pytest.mark.parametrize(("highest", "says"), [(0.998, "None is left above 99.8 %."), (0.9, "About ")])
def test_no_point_is_promised_above_all_images_right(highest: float, says: str) -> None:
    sizes = np.array([100.0, 400.0, 1200.0])
    errors = (1 - highest) * (sizes / 1200) ** -0.8
    table = pd.DataFrame({"train_size": sizes, "test_accuracy": 1 - errors, "model": "net"})
    (row,) = (row for _, row in more_images(table).iterrows())
    assert one_more_point(row).startswith(says)
