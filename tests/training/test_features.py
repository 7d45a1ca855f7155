"""Features of a frozen backbone: the numbers of the forward pass, computed once, whoever needs them."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from raybench.cache import entries
from raybench.records import ModelSpec
from raybench.training.batches import Preparation
from raybench.training.data import ImageData, ImageSplit
from raybench.training.feature_cache import FeatureCache
from raybench.training.features import BATCH, FrozenFeatures, frozen_features
from raybench.training.models import build_network
from raybench.training.network import Network

CPU = torch.device("cpu")
TRAIN, VAL, TEST = 90, 20, 20


def made_images(side: int = 16, *, train: int = TRAIN, content: str = "0123abcd") -> ImageData:
    random = np.random.default_rng(0)

    def split(count: int) -> ImageSplit:
        pixels = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        return ImageSplit(images=pixels, labels=np.arange(count) % 5, names=tuple(str(index) for index in range(count)))

    return ImageData(
        classes=tuple("abcde"),
        train=split(train),
        val=split(VAL),
        test=split(TEST),
        fingerprint="",
        content=content,
    )


def built(name: str = "resnet8", side: int = 16, seed: int = 0) -> Network:
    spec = ModelSpec(name=name, head=None)
    return build_network(spec, "random", num_classes=5, image_size=side, seed=seed)


def prepared(network: Network) -> Preparation:
    return Preparation(mean=network.mean, std=network.std, device=CPU, policy="none", seed=0)


def opened(
    network: Network, images: ImageData, cache: FeatureCache | None = None, *, bfloat16: bool = False
) -> FrozenFeatures:
    features = frozen_features(network, images, prepared(network), bfloat16=bfloat16, dataset="made", cache=cache)
    assert features is not None
    return features


def everything(features: FrozenFeatures) -> Tensor:
    features.fill({"train": None, "val": None, "test": None})
    return torch.cat([features.source(split).all() for split in ("train", "val", "test")])


def batches_noted(root: Path) -> int:
    """Return how many batches anybody has computed for the one entry of a cache."""
    (seconds,) = (root / "features").glob("*/seconds.f64")
    return seconds.stat().st_size // 8


@contextmanager
def images_seen(network: Network) -> Iterator[list[int]]:
    """Count the images that go through a network, pass by pass."""
    seen: list[int] = []
    with network.module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0]))):
        yield seen


@pytest.mark.parametrize(("name", "side"), [("resnet8", 16), ("resnet18", 32), ("alexnet", 63), ("vit_b_32", 32)])
def test_rows_are_the_same_bits_in_any_order_and_company(name: str, side: int) -> None:
    network, images = built(name, side), made_images(side)
    together = everything(opened(network, images))
    apart = opened(network, images)
    apart.fill({"val": np.array([19]), "train": np.array([70])})
    apart.fill({"train": np.array([88, 3, 41])})
    apart.fill({"test": None})
    assert torch.equal(everything(apart), together)


@pytest.mark.parametrize("name", ["resnet8", "alexnet"])
def test_the_head_makes_of_them_what_the_network_makes_of_the_images(name: str) -> None:
    network, images = built(name, 63), made_images(63)
    features = everything(opened(network, images))
    pixels = np.concatenate([images.train.images, images.val.images])
    network.module.eval()
    with torch.no_grad():
        expected = network.module(prepared(network).evaluation(pixels))
        torch.testing.assert_close(network.head(features[: len(pixels)]), expected, rtol=1e-5, atol=1e-5)


def test_places_of_a_source_are_places_among_the_positions_it_was_asked_for() -> None:
    features = opened(built(), made_images())
    positions = np.array([80, 2, 33])
    features.fill({"train": positions})
    rows = features.source("train", positions).all()
    assert torch.equal(rows, everything(features)[positions])
    assert torch.equal(features.source("train", positions).take(torch.tensor([2, 0])), rows[[2, 0]])


def test_a_later_trial_computes_only_what_is_missing(tmp_path: Path) -> None:
    network, images, cache = built(), made_images(), FeatureCache(root=tmp_path)
    first = opened(network, images, cache)
    first.fill({"train": np.arange(50), "val": None})
    with images_seen(network) as seen:
        later = opened(network, images, cache)
        later.fill({"train": np.arange(20, 40), "val": None})
        assert seen == []
        later.fill({"train": np.arange(45, 55)})
        assert seen == [BATCH["cpu"]]
    assert torch.equal(everything(later), everything(opened(network, images)))


def test_a_batch_is_filled_up_with_images_that_are_needed_later_the_test_split_first(tmp_path: Path) -> None:
    network, images, cache = built(), made_images(), FeatureCache(root=tmp_path)
    opened(network, images, cache).fill({"train": np.arange(30)})
    with images_seen(network) as seen:
        opened(network, images, cache).fill({"test": None, "train": np.arange(25)})
        assert seen == [], "34 images more than were asked for: all of test and some of val"
        everything(opened(network, images, cache))
        assert seen == [BATCH["cpu"]] * 2


def test_what_an_image_takes_is_the_same_whoever_computed_it(tmp_path: Path) -> None:
    network, images, cache = built(), made_images(), FeatureCache(root=tmp_path)
    first, later = opened(network, images, cache), opened(network, images, cache)
    first.fill({"train": None})
    later.fill({"train": None})
    assert first.seconds_per_image == later.seconds_per_image > 0


def test_rows_whose_time_nobody_noted_are_measured_again(tmp_path: Path) -> None:
    network, images, cache = built(), made_images(), FeatureCache(root=tmp_path)
    opened(network, images, cache).fill({"val": None})
    for path in (tmp_path / "features").glob("*/seconds.f64"):
        path.unlink()
    later = opened(network, images, cache)
    later.fill({"val": None})
    assert later.seconds_per_image > 0


class _Scaled(nn.Module):
    """Two of them have the same tensors, and different code as far as a hash of tensors can see."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.head = nn.Linear(3, 5)
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.factor * images.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def own(factor: float) -> Network:
    ones = (1.0, 1.0, 1.0)
    return Network(
        name="own",
        module=_Scaled(factor),
        head_name="head",
        image_size=16,
        mean=ones,
        std=ones,
        note="",
        has_learned=False,
    )


def test_edited_code_of_a_model_does_not_find_the_rows_of_the_old_code(tmp_path: Path) -> None:
    images, cache = made_images(), FeatureCache(root=tmp_path)
    before = everything(opened(own(1.0), images, cache))
    torch.testing.assert_close(everything(opened(own(2.0), images, cache)), 2 * before)
    assert len(entries(tmp_path)) == 1, "the old ones are gone"


def test_an_entry_for_each_backbone_dataset_normalisation_precision_and_number_of_threads(tmp_path: Path) -> None:
    network, images, cache = built(), made_images(), FeatureCache(root=tmp_path)
    opened(network, images, cache)
    opened(built(seed=1), images, cache)
    opened(network, made_images(content="4567cdef"), cache)
    opened(replace(network, mean=(0.4, 0.4, 0.4)), images, cache)
    opened(network, images, cache, bfloat16=True)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        opened(network, images, cache)
    finally:
        torch.set_num_threads(threads)
    opened(network, images, cache)
    assert len(entries(tmp_path)) == 6
    description = entries(tmp_path)[0].description
    assert description is not None
    assert (description["dataset"], description["model"], description["precision"]) == ("made", "resnet8", "float32")


def test_features_stay_in_memory_where_the_limit_leaves_no_room(tmp_path: Path) -> None:
    network, images = built(), made_images()
    small = everything(opened(network, images, FeatureCache(root=tmp_path, limit_bytes=1000)))
    assert torch.equal(small, everything(opened(network, images)))
    assert entries(tmp_path) == []


def test_features_stay_in_memory_where_the_cache_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    network, images = built(), made_images()
    features = everything(opened(network, images, FeatureCache(root=tmp_path / "file")))
    assert torch.equal(features, everything(opened(network, images)))


def test_a_disk_that_fails_while_rows_are_written_loses_none(tmp_path: Path) -> None:
    network, images = built(), made_images()
    features = opened(network, images, FeatureCache(root=tmp_path))
    features.fill({"val": None})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        filled = everything(features)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(filled, everything(opened(network, images)))
    assert features.seconds_per_image > 0


FILLER = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from raybench.training.feature_cache import FeatureCache
from tests.training.test_features import built, made_images, opened
root, go = Path(sys.argv[1]), Path(sys.argv[2])
features = opened(built("resnet18", 32), made_images(32, train=700), FeatureCache(root=root))
(go.parent / sys.argv[3]).touch()
while not go.exists():
    time.sleep(0.005)
features.fill({"train": None, "val": None})
"""


def start_filler(root: Path, go: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FILLER, str(root), str(go), name])


def wait_until(condition: object, process: subprocess.Popen[bytes]) -> None:
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the process ended early"
        time.sleep(0.005)


@pytest.fixture
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_processes_that_fill_together_share_the_work(tmp_path: Path) -> None:
    root, go = tmp_path / "cache", tmp_path / "go"
    fillers = [start_filler(root, go, name) for name in ("a", "b")]
    for name, filler in zip(("a", "b"), fillers, strict=True):
        wait_until((tmp_path / name).exists, filler)
    go.touch()
    assert [filler.wait() for filler in fillers] == [0, 0]
    needed = -(-(700 + VAL) // BATCH["cpu"])
    assert needed <= batches_noted(root) <= needed + 4
    network, images = built("resnet18", 32), made_images(32, train=700)
    with images_seen(network) as seen:
        together = opened(network, images, FeatureCache(root=root))
        together.fill({"train": None, "val": None})
        assert seen == [2], "two images tell whether it is the same backbone"
    some: npt.NDArray[np.int64] = np.arange(0, 700, 9)
    alone = opened(network, images)
    alone.fill({"train": some})
    assert torch.equal(together.source("train", some).all(), alone.source("train", some).all())


@pytest.mark.usefixtures("_one_thread")
def test_what_a_killed_process_has_computed_is_used_and_the_rest_is_computed(tmp_path: Path) -> None:
    root, go = tmp_path / "cache", tmp_path / "go"
    go.touch()
    filler = start_filler(root, go, "a")
    wait_until(lambda: any((root / "features").glob("*/seconds.f64")), filler)
    filler.send_signal(signal.SIGKILL)
    filler.wait()
    network, images = built("resnet18", 32), made_images(32, train=700)
    after = opened(network, images, FeatureCache(root=root))
    some: npt.NDArray[np.int64] = np.arange(0, 700, 9)
    after.fill({"train": some})
    alone = opened(network, images)
    alone.fill({"train": some})
    assert torch.equal(after.source("train", some).all(), alone.source("train", some).all())
