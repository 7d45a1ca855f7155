"""Weight files and their cards: what is read, what is refused, and that no code of theirs runs."""

import json
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raybench.errors import WeightsError
from raybench.training.cifar_resnet import cifar_resnet
from raybench.training.weight_files import WeightCard, read_card, read_tensors, tensors_digest, write_weights


def some_tensors() -> "OrderedDict[str, Tensor]":
    return OrderedDict(cifar_resnet("resnet8").state_dict())


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_digest_of_tensors_follows_names_shapes_types_and_values_alone() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    others: list[dict[str, Tensor]] = [
        {"a": torch.zeros(3, 2), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3), "c": torch.ones(2)},
        {"a": torch.zeros(2, 3), "b": torch.full((2,), 2.0)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3)},
    ]

    reordered = {"b": torch.ones(2), "a": torch.zeros(3, 2).mT}

    assert tensors_digest(reordered) == tensors_digest(tensors)
    assert len({tensors_digest(tensors), *map(tensors_digest, others)}) == 6


def test_empty_tensors_have_a_digest() -> None:
    assert tensors_digest({"a": torch.zeros(0, 3), "b": torch.tensor(1)}) != tensors_digest({"b": torch.tensor(1)})


@pytest.mark.parametrize("nesting", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_checkpoints_of_training_scripts_are_unpacked(tmp_path: Path, nesting: str, prefix: str) -> None:
    saved = some_tensors()
    tensors = {prefix + name: tensor for name, tensor in saved.items()}
    torch.save({"epoch": 3, nesting: tensors, "optimizer": {"lr": 0.1}}, tmp_path / "checkpoint.pth")

    assert same(read_tensors(tmp_path / "checkpoint.pth"), saved)


class _RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": some_tensors(), "extra": _RunsCode(tmp_path / "ran")}, tmp_path / "weights.pth")

    with pytest.raises(WeightsError, match=r"would run code that it carries"):
        read_tensors(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


def test_pickle_of_a_later_protocol_is_read_without_a_warning(tmp_path: Path) -> None:
    torch.save(some_tensors(), tmp_path / "weights.pth", pickle_protocol=3)

    tensors = read_tensors(tmp_path / "weights.pth")

    assert list(tensors) == list(some_tensors())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80", b"no weights at all", b"half"])
def test_damaged_file_is_refused_by_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    if content == b"half":
        write_weights(tmp_path / "whole.safetensors", some_tensors(), WeightCard())
        torch.save(some_tensors(), tmp_path / "whole.pth")
        content = (tmp_path / f"whole{suffix}").read_bytes()
        content = content[: len(content) // 2]
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=f"weights{suffix}.*damaged"):
        read_tensors(path)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3}, 7])
def test_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")

    with pytest.raises(WeightsError, match=r"holds no named tensors; save model.state_dict\(\)"):
        read_tensors(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", r"weights.json: cannot be read as JSON"),
        ("[]", r"weights.json: is not a JSON object but a list"),
        ('{"mean": [0, 0, 0]}', r"weights.json: mean and std belong together"),
        ('{"mean": [0, 0, 0], "std": [1, 1, 0]}', r"weights.json: std \[1, 1, 0\] is not .* three numbers above 0"),
        ('{"mean": [0, 0], "std": [1, 1, 1]}', r"weights.json: mean \[0, 0\] is not a list of three numbers"),
        ('{"mean": "grey", "std": [1, 1, 1]}', r"weights.json: mean 'grey' is not"),
    ],
)
def test_wrong_card_is_refused(tmp_path: Path, card: str, message: str) -> None:
    (tmp_path / "weights.json").write_text(card)

    with pytest.raises(WeightsError, match=message):
        read_card(tmp_path / "weights.pth")


def test_card_is_plain_json(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", {"a": torch.zeros(2).expand(3, 2)}, WeightCard(model="resnet8"), seed=3)

    entries = json.loads((tmp_path / "w.json").read_text())
    assert entries["model"] == "resnet8"
    assert entries["seed"] == 3
    assert read_tensors(tmp_path / "w.safetensors")["a"].shape == (3, 2)
