"""The network that the last trial of this process left untrained but for its head, for a next one that begins with it.

In: what a trial's network is built from. Out: the network, in its initial state, as `build_network` makes it. Trials
that follow one another in a process often differ in their seed or training set alone: reading the weights again, and
hashing them for the features that they stand for, would take longer than training a head.
"""

from dataclasses import dataclass
from pathlib import Path

from raybench.records import ModelSpec
from raybench.training.image_sizes import works_on_meta
from raybench.training.models import build_network, replace_head_of
from raybench.training.network import Network
from raybench.training.weight_files import card_path
from raybench.training.weights import resolve_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class _Origin:
    """What decides a backbone's tensors."""

    spec: ModelSpec
    weights: str
    image_size: int
    seed: int | None
    """None where the weights are from a file."""
    files: tuple[tuple[int, int], ...]
    """Time of change in nanoseconds, and size in bytes, of the weight file and its card."""


_KEPT: dict[_Origin, Network] = {}
"""One at most."""


def initial_network(spec: ModelSpec, weights: str, *, num_classes: int, image_size: int, seed: int) -> Network:
    """Return what `build_network` returns, or raise what it raises."""
    kept = _KEPT.pop(_origin(spec, weights, image_size=image_size, seed=seed), None)
    _KEPT.clear()  # before another one is built: there is never memory for two
    if kept is None:
        return build_network(spec, weights, num_classes=num_classes, image_size=image_size, seed=seed)
    return replace_head_of(kept, num_classes=num_classes, seed=seed)


def keep_network(network: Network, spec: ModelSpec, weights: str, *, seed: int) -> None:
    """Keep the network of a trial that has ended and trained nothing but its head; nobody may use it any more."""
    if works_on_meta(spec):  # code of somebody else may change what it likes while it runs
        _KEPT.clear()
        _KEPT[_origin(spec, weights, image_size=network.image_size, seed=seed)] = network


def _origin(spec: ModelSpec, weights: str, *, image_size: int, seed: int) -> _Origin:
    path = resolve_weights(spec, weights).path
    files = () if path is None else tuple(_stamp(file) for file in (path, card_path(path)))
    return _Origin(spec=spec, weights=weights, image_size=image_size, seed=seed if path is None else None, files=files)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
