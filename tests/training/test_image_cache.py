"""Images are decoded once: a second opening decodes none, an interrupted build goes on, a damaged one starts anew."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raybench.errors import DataError
from raybench.training.image_cache import cached_images
from raybench.training.listing import SplitListing, list_files

IMAGES = 40


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write images whose level is their number."""
    folder = tmp_path / "files"
    folder.mkdir()
    for index in range(IMAGES):
        Image.new("L", (8, 8), index).save(folder / f"{index:02}.bmp")
    return folder


def listing(folder: Path) -> dict[str, SplitListing]:
    names = sorted(path.name for path in folder.iterdir())
    train, test = names[:-10], names[-10:]
    return {"train": list_files(folder, train, [0] * len(train)), "test": list_files(folder, test, [0] * len(test))}


class Decodings:
    """Counts the images that a build went through."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))


def levels(folder: Path, cache: Path, **options: object) -> dict[str, list[int]]:
    cached = cached_images(listing(folder), 4, cache_dir=cache, **options)  # type: ignore[arg-type]
    return {name: images[:, 0, 0, 0].tolist() for name, images in cached.images.items()}


EXPECTED = {"train": list(range(30)), "test": list(range(30, 40))}


def test_progress_counts_every_image_of_every_split(files: Path, tmp_path: Path) -> None:
    decodings = Decodings()
    assert levels(files, tmp_path / "cache", progress=decodings) == EXPECTED
    assert decodings.seen == [(done, IMAGES) for done in range(1, IMAGES + 1)]


def test_a_second_opening_decodes_nothing(files: Path, tmp_path: Path) -> None:
    levels(files, tmp_path / "cache")
    decodings = Decodings()
    assert levels(files, tmp_path / "cache", progress=decodings) == EXPECTED
    assert decodings.seen == []


def test_arrays_are_mapped_from_files_not_held_in_memory(files: Path, tmp_path: Path) -> None:
    images = cached_images(listing(files), 4, cache_dir=tmp_path / "cache").images["train"]
    assert isinstance(images, np.memmap)


def test_another_image_size_is_another_cache(files: Path, tmp_path: Path) -> None:
    levels(files, tmp_path / "cache")
    assert cached_images(listing(files), 6, cache_dir=tmp_path / "cache").images["train"].shape == (30, 6, 6, 3)
    assert levels(files, tmp_path / "cache") == EXPECTED


def test_an_edited_image_of_the_same_size_is_decoded_again(files: Path, tmp_path: Path) -> None:
    levels(files, tmp_path / "cache")
    path = files / "00.bmp"
    size, modified = path.stat().st_size, path.stat().st_mtime_ns
    Image.new("L", (8, 8), 77).save(path)
    assert path.stat().st_size == size
    os.utime(path, ns=(modified + 1, modified + 1))
    assert levels(files, tmp_path / "cache")["train"][0] == 77


def cache_folder(cache: Path) -> Path:
    (folder,) = [path for path in (cache / "images").iterdir() if path.is_dir()]
    return folder


def without_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


def with_cut_pixels(folder: Path) -> None:
    os.truncate(folder / "train.u8", 100)


def with_broken_meta(folder: Path) -> None:
    (folder / "meta.json").write_text('{"skipped": {')


def with_another_meta(folder: Path) -> None:
    (folder / "meta.json").write_text(json.dumps({"format": 0}))


def without_a_split(folder: Path) -> None:
    (folder / "test.u8").unlink()


@pytest.mark.parametrize(
    "damage", [without_meta, with_cut_pixels, with_broken_meta, with_another_meta, without_a_split]
)
def test_a_cache_that_is_not_whole_is_built_again(damage: Callable[[Path], None], files: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    levels(files, cache)
    damage(cache_folder(cache))
    decodings = Decodings()
    assert levels(files, cache, progress=decodings) == EXPECTED
    assert len(decodings.seen) == IMAGES
    assert levels(files, cache) == EXPECTED


class InterruptError(Exception):
    """Stands for Ctrl-C in the middle of a build."""


def interrupt_after(images: int) -> Callable[[int, int], None]:
    def progress(done: int, _total: int) -> None:
        if done == images:
            raise InterruptError

    return progress


def interrupted(files: Path, cache: Path) -> Path:
    with pytest.raises(InterruptError):
        levels(files, cache, progress=interrupt_after(25))
    folder = cache_folder(cache)
    assert folder.suffix == ".partial"
    return folder


def spoil_hidden(files: Path, name: str) -> None:
    """Spoil a file in place so that neither size nor time of change tells."""
    path = files / name
    status = path.stat()
    path.write_bytes(b"\0" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_an_interrupted_build_goes_on_without_decoding_what_it_has(files: Path, tmp_path: Path) -> None:
    interrupted(files, tmp_path / "cache")
    spoil_hidden(files, "03.bmp")  # would be an error, were it decoded again
    assert levels(files, tmp_path / "cache") == EXPECTED


def test_what_an_interrupted_build_wrote_is_trusted_only_if_its_hash_fits(files: Path, tmp_path: Path) -> None:
    partial = interrupted(files, tmp_path / "cache")
    with (partial / "train.u8").open("r+b") as pixels:
        pixels.seek(3 * 4 * 4 * 3)
        pixels.write(b"\xff" * 10)
    assert levels(files, tmp_path / "cache") == EXPECTED


def test_an_unreadable_image_is_an_error_and_leaves_no_cache(files: Path, tmp_path: Path) -> None:
    (files / "05.bmp").write_text("no image")
    with pytest.raises(DataError, match=r"05.bmp \(train split\) cannot be read"):
        levels(files, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir()]


def test_skipped_images_leave_no_gap_and_are_named_by_position(files: Path, tmp_path: Path) -> None:
    for name in ("00.bmp", "05.bmp", "39.bmp"):
        (files / name).write_text("no image")
    expected = {"train": [n for n in range(30) if n not in (0, 5)], "test": list(range(30, 39))}
    assert levels(files, tmp_path / "cache", skip_bad=True) == expected
    cached = cached_images(listing(files), 4, cache_dir=tmp_path / "cache", skip_bad=True)
    assert [entry.position for entry in cached.skipped["train"]] == [0, 5]
    assert [entry.position for entry in cached.skipped["test"]] == [9]


def test_a_cache_with_skipped_images_is_still_an_error_where_none_may_be_skipped(files: Path, tmp_path: Path) -> None:
    (files / "05.bmp").write_text("no image")
    levels(files, tmp_path / "cache", skip_bad=True)
    with pytest.raises(DataError, match=r"05.bmp \(train split\) cannot be read: not an image"):
        levels(files, tmp_path / "cache")


def test_two_processes_at_once_build_once(files: Path, tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_image_cache import Decodings, levels
go, ready = Path(sys.argv[1]), Path(sys.argv[2])
ready.touch()
while not go.exists():
    time.sleep(0.001)
decodings = Decodings()
print(levels(Path({str(files)!r}), Path({str(tmp_path / "cache")!r}), progress=decodings), len(decodings.seen))
"""
    go = tmp_path / "go"
    ready = [tmp_path / "ready0", tmp_path / "ready1"]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(go), str(mark)], stdout=subprocess.PIPE, text=True)
        for mark in ready
    ]
    while not all(mark.exists() for mark in ready) and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    go.touch()
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(outputs) == [f"{EXPECTED} 0", f"{EXPECTED} {IMAGES}"]


def test_opening_a_cache_costs_under_50_microseconds_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    Image.new("L", (2, 2)).save(folder / "0.bmp")
    for index in range(1, 4000):
        (folder / f"{index}.bmp").hardlink_to(folder / "0.bmp")
    cached_images(listing(folder), 2, cache_dir=tmp_path / "cache")
    begin = time.process_time()
    cached_images(listing(folder), 2, cache_dir=tmp_path / "cache")
    assert time.process_time() - begin < 4000 * 50e-6


def base_levels(files: Path, cache: Path, **options: object) -> list[int]:
    cached = cached_images(listing(files), 4, base_size=5, cache_dir=cache, **options)  # type: ignore[arg-type]
    assert cached.base is not None
    assert cached.base.shape[1:] == (5, 5, 3)
    return [int(level) for level in cached.base[:, 0, 0, 0]]


def test_both_sizes_come_from_one_decoding(files: Path, tmp_path: Path) -> None:
    decodings = Decodings()
    assert base_levels(files, tmp_path / "cache", progress=decodings) == EXPECTED["train"]
    assert levels(files, tmp_path / "cache", progress=decodings) == EXPECTED
    assert decodings.seen == [(done, IMAGES) for done in range(1, IMAGES + 1)]


def test_only_the_size_that_is_missing_is_decoded(files: Path, tmp_path: Path) -> None:
    levels(files, tmp_path / "cache")
    spoil_hidden(files, "35.bmp")  # of the test split, which only the first size has
    decodings = Decodings()
    assert base_levels(files, tmp_path / "cache", progress=decodings) == EXPECTED["train"]
    assert len(decodings.seen) == 30


def test_the_pixels_of_a_size_do_not_depend_on_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "jpegs"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (11, 40, 40, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{index:02}.jpg")
    splits = listing(folder)
    # Eight and eleven: the decoder may shrink a JPEG of 40 px to 20 px for the one, and not for the other.
    both = cached_images(splits, 8, base_size=11, cache_dir=tmp_path / "both")
    one = cached_images(splits, 8, cache_dir=tmp_path / "one")
    then = cached_images(splits, 8, base_size=11, cache_dir=tmp_path / "one")
    assert np.array_equal(both.images["train"], one.images["train"])
    assert both.base is not None
    assert then.base is not None
    assert np.array_equal(both.base, then.base)


def test_an_interrupted_build_of_two_sizes_goes_on_in_both(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptError):
        base_levels(files, tmp_path / "cache", progress=interrupt_after(25))
    spoil_hidden(files, "03.bmp")
    assert base_levels(files, tmp_path / "cache") == EXPECTED["train"]
    assert levels(files, tmp_path / "cache") == EXPECTED


def test_a_damaged_larger_size_is_built_again(files: Path, tmp_path: Path) -> None:
    base_levels(files, tmp_path / "cache")
    sizes = {path.stat().st_size: path for path in (tmp_path / "cache" / "images").glob("*/train.u8")}
    os.truncate(sizes[30 * 5 * 5 * 3], 100)
    decodings = Decodings()
    assert base_levels(files, tmp_path / "cache", progress=decodings) == EXPECTED["train"]
    assert len(decodings.seen) == 30


def test_both_sizes_leave_out_the_same_images(files: Path, tmp_path: Path) -> None:
    for name in ("00.bmp", "39.bmp"):
        (files / name).write_text("no image")
    assert base_levels(files, tmp_path / "cache", skip_bad=True) == list(range(1, 30))


def test_an_image_that_can_be_read_only_sometimes_is_an_error(files: Path, tmp_path: Path) -> None:
    levels(files, tmp_path / "cache")
    spoil_hidden(files, "03.bmp")
    with pytest.raises(DataError, match="read at one time and not at another: 1; make sure"):
        base_levels(files, tmp_path / "cache", skip_bad=True)


def test_an_unreadable_image_leaves_neither_size(files: Path, tmp_path: Path) -> None:
    (files / "05.bmp").write_text("no image")
    with pytest.raises(DataError, match=r"05.bmp \(train split\) cannot be read"):
        base_levels(files, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir()]
