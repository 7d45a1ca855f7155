"""A real run on Fashion-MNIST: what its smaller sizes predict for its largest."""

from pathlib import Path

import pandas as pd

from raybench.curves import predictions

RUN = pd.read_csv(Path(__file__).parent / "data" / "fashion_mnist_curves.csv")
FITTED_UP_TO, PREDICTED = 4776, 19104
NAMES = ["model", "strategy"]


def test_sizes_up_to_4776_predict_the_accuracy_at_19104() -> None:
    at = RUN.pivot_table("test_accuracy", index=NAMES, columns="train_size")  # means over seeds
    truth, carried = at[PREDICTED], at[FITTED_UP_TO]
    table = predictions(RUN[RUN["train_size"] <= FITTED_UP_TO], [PREDICTED]).set_index(NAMES)
    assert len(table) == 6
    assert table["trusted"].all()
    errors = (table["accuracy"] - truth).abs()
    inside = (table["low"] <= truth) & (truth <= table["high"])
    assert (errors <= 0.015).mean() >= 0.8, "at least four of five"
    assert inside.mean() >= 0.8
    assert errors.mean() < (carried - truth).abs().mean()
    assert ((truth - carried) >= 0.02).any(), "one configuration at least still gains two points"
