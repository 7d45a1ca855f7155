"""What a trial does where only the cost of running trials is measured: a few products of small matrices."""

import torch

SIDE = 64
PRODUCTS = 10


def work(seed: int) -> float:
    """Return a number that depends on the seed; takes about a millisecond once torch is loaded."""
    matrix = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) / SIDE
    result = matrix
    for _ in range(PRODUCTS):
        result = result @ matrix
    return float(matrix.mean() + result.mean())
