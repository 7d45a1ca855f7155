"""One trial by hand: images from DataLoader workers, a torchvision model, Adam, the best epoch's test accuracy.

In: a config as Ray Tune hands it over: images, image_size, model, strategy, seed, epochs, batch_size, learning_rate,
workers. Out: what each epoch gave, told to `report`, and the test accuracy of the epoch with the lowest val loss.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

Report = Callable[[dict[str, float]], None]
"""Told what each epoch gave: epoch, train_loss, val_loss, val_accuracy, epoch_seconds."""
SPLITS = ("train", "val", "test")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def train(config: Mapping[str, Any], report: Report) -> float:
    """Train one model and return its test accuracy."""
    torch.manual_seed(config["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaders = make_loaders(config)
    classes = loaders["train"].dataset.classes  # type: ignore[attr-defined] # an ImageFolder
    model, learning = make_model(config, classes=len(classes))
    model.to(device)
    optimizer = torch.optim.Adam(learning.parameters(), lr=config["learning_rate"])
    best_loss, best_weights = math.inf, copy.deepcopy(model.state_dict())
    for epoch in range(1, config["epochs"] + 1):
        started = time.perf_counter()
        model.eval()  # a frozen backbone's BatchNorm and dropout stay as they are
        learning.train()
        losses = []
        for images, labels in loaders["train"]:
            loss = functional.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        val_loss, val_accuracy = evaluate(model, loaders["val"], device)
        if val_loss < best_loss:
            best_loss, best_weights = val_loss, copy.deepcopy(model.state_dict())
        report(
            {
                "epoch": epoch,
                "train_loss": sum(losses) / len(losses),
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "epoch_seconds": time.perf_counter() - started,
            }
        )
    model.load_state_dict(best_weights)
    return evaluate(model, loaders["test"], device)[1]


def make_loaders(config: Mapping[str, Any]) -> dict[str, DataLoader[tuple[Tensor, Tensor]]]:
    """Return a loader a split; the workers decode, crop, resize and normalise."""
    size = config["image_size"]
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    workers = config["workers"]
    return {
        split: DataLoader(
            ImageFolder(Path(config["images"]) / split, transform),
            batch_size=config["batch_size"],
            shuffle=split == "train",
            num_workers=workers,
            persistent_workers=workers > 0 and split != "test",  # the test split is read once
            pin_memory=torch.cuda.is_available(),
        )
        for split in SPLITS
    }


def make_model(config: Mapping[str, Any], *, classes: int) -> tuple[nn.Module, nn.Module]:
    """Return the model with a new head, and the part of it that learns."""
    model: nn.Module = models.get_model(config["model"], weights=None)
    place = "classifier.6" if config["model"] == "alexnet" else "fc"
    head = nn.Linear(model.get_submodule(place).in_features, classes)  # type: ignore[arg-type] # known at run time
    model.set_submodule(place, head)
    if config["strategy"] == "fine-tune":
        return model, model
    model.requires_grad_(requires_grad=False)
    head.requires_grad_(requires_grad=True)
    return model, head


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy over a split."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for images, labels in loader:
        logits, wanted = model(images.to(device)), labels.to(device)
        loss += functional.cross_entropy(logits, wanted, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == wanted).sum())
        count += len(labels)
    return loss / count, correct / count
