"""Which training images a trial sees: nested, stratified subsets, and the val split where a source has none.

In: labels, a size and a seed. Out: positions. Every subset is a prefix of one order over all training images, so that
for one seed the smaller are among the larger. The order interleaves the classes in one fixed way; the seed decides
which images of a class come first.

Guarantees for every prefix of n images out of N, with m_c images of class c among the N and k classes (n >= k):

- every class has an image;
- no class has more than ceil(n * m_c / N) images;
- all classes together lack no more images below floor(n * m_c / N) than there are classes with n * m_c / N < 1:
  once every class is owed an image, every count is within one of proportional.
"""

import heapq
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from raybench.errors import DataError
from raybench.records import DatasetFacts
from raybench.seeding import derive


def subset(labels: npt.NDArray[np.int64], train_size: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the positions of `train_size` images, in the order in which the seed draws them.

    `labels` are those of the whole train split, [N]. At `train_size` == N the subset is everything.
    Raises `DataError` where fewer images than classes, or more than there are, are asked for.
    """
    counts = np.bincount(labels)
    classes = int(np.count_nonzero(counts))
    if not classes <= train_size <= len(labels):
        raise DataError(_unacceptable(train_size, "the dataset", classes, len(labels)))
    return stratified_order(labels, derive(seed, "subset"))[:train_size]


def check_train_size(facts: DatasetFacts, train_size: int) -> None:
    """Raise `DataError` where a subset of this size cannot be drawn from the dataset's train split."""
    if not len(facts.classes) <= train_size <= facts.train_images:
        raise DataError(_unacceptable(train_size, repr(facts.name), len(facts.classes), facts.train_images))


def stratified_order(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return all positions in an order whose prefixes are stratified as the module's docstring says."""
    # Raw bits of PCG64, since numpy keeps them the same over its versions, unlike what its Generator makes of them.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    by_class = np.lexsort((keys, labels))
    sequence = _class_sequence(tuple(int(count) for count in np.bincount(labels)))
    order = np.empty(len(labels), dtype=np.int64)
    order[np.argsort(sequence, kind="stable")] = by_class
    return order


@lru_cache(maxsize=32)
def _class_sequence(counts: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the class of each place of the order, [N]: first one of each class, then by earliest deadline.

    The j-th image of a class may be placed once the class is owed a part of it, and is due when it is owed all of it.
    Earliest deadline first meets every deadline where the shares add up to one place a step (Steiner and Yeomans 1993,
    "Level schedules for mixed-model, just-in-time processes"); placing one of each class first can only delay
    others by the places which that takes, and all first images may be placed from the first step on.
    """
    total = sum(counts)
    present = [label for label, count in enumerate(counts) if count]
    sequence = np.empty(total, dtype=np.int64)
    sequence[: len(present)] = present
    placed = [1] * len(counts)
    waiting: list[tuple[int, int]] = []
    due: list[tuple[int, int]] = []

    def offer(label: int) -> None:
        if placed[label] < counts[label]:
            release = placed[label] * total // counts[label] + 1
            heapq.heappush(waiting, (release, label))

    for label in present:
        offer(label)
    for place in range(len(present), total):
        while waiting and waiting[0][0] <= place + 1:
            _, label = heapq.heappop(waiting)
            deadline = -(-(placed[label] + 1) * total // counts[label])
            heapq.heappush(due, (deadline, label))
        _, label = heapq.heappop(due)
        sequence[place] = label
        placed[label] += 1
        offer(label)
    sequence.flags.writeable = False
    return sequence


def _unacceptable(train_size: int, name: str, classes: int, images: int) -> str:
    accepted = f"give a number from {classes} to {images}, or 'all'"
    if train_size > images:
        return f"train_size {train_size} is more than the {images} training images of {name}; {accepted}"
    return (
        f"train_size {train_size} is less than the {classes} classes of {name}: a class would have no image; {accepted}"
    )
