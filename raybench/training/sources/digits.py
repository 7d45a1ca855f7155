"""`digits`: scikit-learn's 1797 handwritten digits of 8 x 8 pixels, with fixed, stratified splits."""

import numpy as np

from raybench.records import DatasetSpec
from raybench.seeding import derive
from raybench.training.listing import Listing, list_array
from raybench.training.subsets import stratified_order

TRAIN, VAL = 1197, 300
"""Images of the first two splits; the other 300 are the test split."""
_LEVELS = 16
"""Grey levels go from 0 to this."""


def list_digits(spec: DatasetSpec, argument: str) -> Listing:  # noqa: ARG001 - every source is called the same way
    """Return the digits, 0..16 scaled to 0..255, named by their position in scikit-learn's array."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes half a second, and most trials need it not

    digits = load_digits()
    images = np.round(digits.images * (255 / _LEVELS)).astype(np.uint8)
    order = stratified_order(digits.target, derive(0, "digits splits"))
    train, val, test = (
        list_array(images[chosen], digits.target[chosen], [f"digits/{position}" for position in chosen])
        for chosen in map(np.sort, np.split(order, [TRAIN, TRAIN + VAL]))
    )
    return Listing(classes=tuple(str(name) for name in digits.target_names), train=train, val=val, test=test)
