"""Subsets are nested, stratified, paired and never lose a class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.errors import DataError
from raybench.records import DatasetFacts
from raybench.training.subsets import check_train_size, stratified_order, subset

class_counts = st.lists(st.integers(1, 60), min_size=2, max_size=12)
seeds = st.integers(0, 2**32)


def labels_of(counts: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(7).permutation(labels)


@given(counts=class_counts, seed=seeds)
def test_the_whole_order_holds_every_image_once(counts: list[int], seed: int) -> None:
    labels = labels_of(counts)
    assert sorted(subset(labels, len(labels), seed)) == list(range(len(labels)))


@given(counts=class_counts, seed=seeds, data=st.data())
def test_a_smaller_subset_is_the_beginning_of_a_larger_one(counts: list[int], seed: int, data: st.DataObject) -> None:
    labels = labels_of(counts)
    small, large = sorted(data.draw(st.lists(st.integers(len(counts), len(labels)), min_size=2, max_size=2)))
    assert subset(labels, small, seed).tolist() == subset(labels, large, seed)[:small].tolist()


@given(counts=class_counts, seed=seeds)
def test_every_prefix_is_stratified_within_the_stated_bounds(counts: list[int], seed: int) -> None:
    labels = labels_of(counts)
    total = len(labels)
    order = stratified_order(labels, seed)
    running = np.cumsum(np.eye(len(counts), dtype=int)[labels[order]], axis=0)
    for size in range(len(counts), total + 1):
        drawn = running[size - 1]
        owed = size * np.array(counts)
        assert (drawn >= 1).all()
        assert (drawn <= -(-owed // total)).all()
        lacking = np.maximum(owed // total - drawn, 0).sum()
        assert lacking <= (owed < total).sum()


@given(counts=class_counts)
def test_counts_are_within_one_of_proportional_once_every_class_is_owed_an_image(counts: list[int]) -> None:
    labels = labels_of(counts)
    total = len(labels)
    for size in range(-(-total // min(counts)), total + 1):
        drawn = np.bincount(labels[subset(labels, size, 0)], minlength=len(counts))
        assert (np.abs(drawn - size * np.array(counts) / total) < 1).all()


def test_one_dominant_class_does_not_push_out_the_rare_ones() -> None:
    labels = labels_of([980, 10, 10])
    drawn = np.bincount(labels[subset(labels, 3, 0)])
    assert drawn.tolist() == [1, 1, 1]


def test_same_seed_draws_the_same_images_and_another_seed_others() -> None:
    labels = labels_of([50, 50, 50])
    assert subset(labels, 30, 4).tolist() == subset(labels, 30, 4).tolist()
    assert set(subset(labels, 30, 4)) != set(subset(labels, 30, 5))


def test_the_draw_is_the_same_on_every_machine_and_version() -> None:
    assert subset(np.array([0, 1, 0, 1, 0, 2]), 6, 0).tolist() == [4, 1, 5, 2, 0, 3]


def test_seeds_draw_every_image_of_a_class_about_equally_often() -> None:
    labels = labels_of([20, 20])
    hits = np.zeros(40)
    for seed in range(400):
        hits[subset(labels, 10, seed)] += 1
    # Binomial(400, 1/4): mean 100, standard deviation 8.7; five of them on either side.
    assert hits.min() > 56
    assert hits.max() < 144


@pytest.mark.parametrize("train_size", [-1, 0, 2, 7])
def test_sizes_that_cannot_be_drawn_are_refused_with_what_is_accepted(train_size: int) -> None:
    with pytest.raises(DataError, match=r"give a number from 3 to 6, or 'all'"):
        subset(np.array([0, 1, 2, 0, 1, 2]), train_size, 0)


@pytest.mark.parametrize(("train_size", "message"), [(5, "less than the 10 classes"), (1198, "more than the 1197")])
def test_a_check_against_facts_names_the_dataset(train_size: int, message: str) -> None:
    facts = DatasetFacts(
        name="digits",
        fingerprint="f",
        classes=tuple("0123456789"),
        train_images=1197,
        val_images=300,
        test_images=300,
        train_class_counts=(119,) * 10,
    )
    with pytest.raises(DataError, match=f"train_size {train_size} is {message} .*'digits'"):
        check_train_size(facts, train_size)
    check_train_size(facts, 10)
    check_train_size(facts, 1197)
