"""Pixels reach the model unchanged but for normalisation, in the layout it wants, from wherever they lie."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raybench.training.network import normalised
from raybench.training.pixels import PixelSource, Residents, pixel_source, to_model

CPU = torch.device("cpu")
META = torch.device("meta")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = 12


@pytest.fixture
def images(tmp_path: Path) -> np.memmap:
    """Map twelve images of 5 px."""
    random = np.random.default_rng(0).integers(0, 256, (IMAGES, 5, 5, 3), dtype=np.uint8)
    random.tofile(tmp_path / "train.u8")
    return np.memmap(tmp_path / "train.u8", dtype=np.uint8, mode="c", shape=random.shape)


def resident(images: np.ndarray, positions: np.ndarray | None) -> PixelSource:
    kept = Residents().find(images, positions, CPU, images.nbytes)
    return PixelSource(images=images, positions=positions, device=CPU, resident=kept)


@pytest.mark.parametrize("source", [pixel_source, resident])
@pytest.mark.parametrize("positions", [None, np.array([7, 2, 9, 0, 11])])
def test_images_are_taken_by_their_place_among_the_chosen(
    source: object, positions: np.ndarray | None, images: np.memmap
) -> None:
    chosen = images if positions is None else images[positions]
    taken = resident(images, positions) if source is resident else pixel_source(images, CPU, positions)
    assert len(taken) == len(chosen)
    assert np.array_equal(taken.take(np.array([4, 0, 3])).numpy(), chosen[[4, 0, 3]])
    assert np.array_equal(taken.between(1, 4).numpy(), chosen[1:4])
    assert np.array_equal(taken.between(3, 99).numpy(), chosen[3:])


def test_images_in_a_row_are_not_copied(images: np.memmap) -> None:
    assert np.shares_memory(pixel_source(images, CPU).between(2, 6).numpy(), images)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("side", [1, 5, 64])
def test_floats_are_exactly_the_images_normalised(side: int, count: int, channels_last: bool) -> None:
    random = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    pixels = torch.from_numpy(random)
    result = to_model(pixels, MEAN, STD, channels_last=channels_last)
    assert torch.equal(result, normalised(pixels.permute(0, 3, 1, 2).float().div(255), MEAN, STD))


@pytest.mark.parametrize(("channels_last", "layout"), [(False, torch.contiguous_format), (True, torch.channels_last)])
@pytest.mark.parametrize("device", [CPU, META])
def test_floats_lie_in_memory_as_asked_for(
    device: torch.device, channels_last: bool, layout: torch.memory_format, images: np.memmap
) -> None:
    result = to_model(torch.from_numpy(images).to(device), MEAN, STD, channels_last=channels_last)
    assert result.shape == (IMAGES, 3, 5, 5)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=layout)


def test_resident_images_are_sent_once(images: np.memmap) -> None:
    residents = Residents()
    first = residents.find(images, np.array([3, 4]), CPU, 1000)
    assert first is not None
    assert np.array_equal(first.numpy(), images[[3, 4]])
    assert residents.find(images, np.array([3, 4]), CPU, 1000) is first
    assert residents.find(images, np.array([4, 3]), CPU, 1000) is not first


def test_images_that_take_more_than_allowed_are_not_kept(images: np.memmap) -> None:
    assert Residents().find(images, None, CPU, images.nbytes - 1) is None


def test_images_that_lie_in_no_file_are_not_kept(images: np.memmap) -> None:
    assert Residents().find(np.asarray(images), None, CPU, images.nbytes) is None


def test_those_used_longest_ago_make_room(images: np.memmap) -> None:
    residents, each = Residents(), images[0].nbytes
    first, second, third = (np.array([position]) for position in range(3))
    residents.find(images, first, CPU, 2 * each)
    kept = residents.find(images, second, CPU, 2 * each)
    residents.find(images, first, CPU, 2 * each)
    residents.find(images, third, CPU, 2 * each)
    assert residents.find(images, second, CPU, 2 * each) is not kept
    assert len(residents.kept) == 2


def test_images_larger_than_a_chunk_are_sent_whole(tmp_path: Path) -> None:
    np.arange(600, dtype=np.uint16).astype(np.uint8).tofile(tmp_path / "x.u8")
    many = np.memmap(tmp_path / "x.u8", dtype=np.uint8, mode="c", shape=(200, 1, 1, 3)).repeat(3, axis=0)
    many.tofile(tmp_path / "many.u8")
    mapped = np.memmap(tmp_path / "many.u8", dtype=np.uint8, mode="c", shape=many.shape)
    kept = Residents().find(mapped, None, CPU, mapped.nbytes)
    assert kept is not None
    assert np.array_equal(kept.numpy(), many)
