"""Features that one machine computes are used by others of its kind: by files in the run directory."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raybench import feature_parts
from raybench.mirror import run_folder
from raybench.training.feature_cache import FeatureCache
from raybench.training.features import BATCH, FrozenFeatures
from raybench.training.network import Network
from tests.stores import object_store
from tests.training.test_features import TEST, TRAIN, VAL, built, everything, images_seen, made_images, opened

IMAGES = TRAIN + VAL + TEST
PROBE = [2]
"""What every opening lets the network see: two fixed images."""


def on_machine(
    name: str, tmp_path: Path, *, shared: Path | None = None, network: Network | None = None
) -> FrozenFeatures:
    """Open the features of a dataset as a trial does on a machine of that name, which has a cache of its own."""
    cache = FeatureCache(root=tmp_path / name, shared=shared or tmp_path / "run" / feature_parts.FOLDER)
    return opened(network or built(), made_images(), cache)


def expected() -> Tensor:
    return everything(opened(built(), made_images()))


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "run").rglob("*.npz"))


def test_what_one_machine_has_computed_another_does_not_compute(tmp_path: Path) -> None:
    one = on_machine("one", tmp_path)
    everything(one)
    network = built()
    with images_seen(network) as seen:
        other = on_machine("other", tmp_path, network=network)
        assert torch.equal(everything(other), expected())
    assert seen == PROBE
    assert other.computed_seconds == 0
    assert other.seconds_per_image == one.seconds_per_image, "a trial costs the same wherever it runs"


def test_a_machine_computes_what_others_have_not(tmp_path: Path) -> None:
    on_machine("one", tmp_path).fill({"train": np.arange(BATCH["cpu"])})
    network = built()
    with images_seen(network) as seen:
        assert torch.equal(everything(on_machine("other", tmp_path, network=network)), expected())
    assert sum(seen) - sum(PROBE) == -(-(IMAGES - BATCH["cpu"]) // BATCH["cpu"]) * BATCH["cpu"]


def test_machines_that_compute_at_the_same_time_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_parts, "GIVE_SECONDS", 0.0)
    monkeypatch.setattr(feature_parts, "LOOK_SECONDS", 0.0)
    one, network = on_machine("one", tmp_path), built()
    other = on_machine("other", tmp_path, network=network)
    with images_seen(network) as seen, network.module.register_forward_hook(lambda *_: everything(one)):
        assert torch.equal(everything(other), expected())
    assert seen == [BATCH["cpu"]], "the rest came from the machine that was quicker"


def test_nothing_is_read_where_nothing_is_missing_nor_what_this_machine_gave(tmp_path: Path) -> None:
    everything(on_machine("one", tmp_path))
    given = files(tmp_path)
    assert len(given) == 1
    everything(on_machine("one", tmp_path))
    assert files(tmp_path) == given, "what was found is not given again"
    given[0].write_bytes(b"")
    everything(on_machine("one", tmp_path))


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def _one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def _changed(**arrays: Any) -> Callable[[Path], None]:  # noqa: ANN401 - whatever an array may hold
    def change(path: Path) -> None:
        with np.load(path) as part:
            content = {**part, **arrays}
        with path.open("wb") as file:
            np.savez(file, **{name: array for name, array in content.items() if array is not None})

    return change


class _Opened:
    """What a pickle would call when it is opened."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was opened')",))


@pytest.mark.parametrize(
    "damage",
    [
        _cut_off,
        lambda path: path.write_bytes(b"no archive"),
        lambda path: path.write_bytes(pickle.dumps(_Opened())),
        lambda path: path.unlink(),
        _one_array,
        _changed(rows=None),
        _changed(rows=np.ones((3, 5), np.float32)),
        _changed(rows=np.array([_Opened()], dtype=object)),
        _changed(positions=np.arange(IMAGES) + 1),
        _changed(positions=np.arange(IMAGES) - 1),
        _changed(positions=np.arange(IMAGES, dtype=np.float64)),
        _changed(seconds=np.array(["soon"])),
        _changed(probe=np.zeros((2, 64), np.float32)),
        _changed(probe=np.full((2, 64), np.nan, np.float32)),
        _changed(probe=np.ones((1, 3), np.float32)),
    ],
    ids=[
        "cut off",
        "no archive",
        "a pickle",
        "gone",
        "one array",
        "without rows",
        "other rows",
        "pickled rows",
        "beyond the end",
        "before the start",
        "no positions",
        "no seconds",
        "of other code",
        "of no numbers",
        "of another width",
    ],
)
def test_a_damaged_file_and_one_of_other_code_count_as_not_there(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    everything(on_machine("one", tmp_path))
    (path,) = files(tmp_path)
    damage(path)
    other = on_machine("other", tmp_path)
    assert torch.equal(everything(other), expected())
    assert other.computed_seconds > 0


def test_a_folder_that_cannot_be_written_to_keeps_nobody_from_computing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert torch.equal(everything(on_machine("one", tmp_path, shared=tmp_path / "file")), expected())


def test_features_go_through_an_object_store_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store(monkeypatch) as bucket:
        monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "one"))
        here = run_folder(f"{bucket}/run")
        everything(on_machine("one", tmp_path, shared=here / feature_parts.FOLDER))
        monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "other"))
        there = run_folder(f"{bucket}/run")
        assert there != here
        other = on_machine("other", tmp_path, shared=there / feature_parts.FOLDER)
        assert torch.equal(everything(other), expected())
        assert other.computed_seconds == 0
        assert [path for folder in (here, there) for path in folder.rglob("*.npz")] == []
        feature_parts.clear(there)
        third = on_machine("third", tmp_path, shared=there / feature_parts.FOLDER)
        everything(third)
        assert third.computed_seconds > 0, "nothing was there any more"
