"""One trial over several processes: each takes its part of every batch, and all learn the same.

In: the place of this process among those of its trial, and torch's process group, which somebody else has set up. Out:
what each takes of a batch or a split, and sums, rows and decisions that all of them share.

Gradients are averaged by torch's DistributedDataParallel. Figures, predictions, states and decisions travel through the
process group's backend for the CPU, summed in the order of the ranks: so that every rank has the same to the last bit
and comes to the same decisions. Nothing here writes a file or knows who started the processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

SMALLEST_PART = 2
"""Images of a batch that a rank takes at least: BatchNorm has no variance over a single one."""
_CPU = torch.device("cpu")
_GLOO = "gloo/"
"""In what gloo raises where another rank is gone: the path of its own source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one rank takes of a batch: the images from `start` to before `stop`."""

    start: int
    stop: int
    whole: int
    """Images of the batch."""
    counts: bool = True
    """False: the rank goes through these for company alone, since every rank takes part in every step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a tensor stood in a state that is sent without its tensors."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """The processes of a trial as one of them sees them. Every rank calls the same methods in the same order."""

    rank: int = 0
    """Of this process, from 0."""
    count: int = 1

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.count == 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and decides."""
        return self.rank == 0

    def span(self, things: int) -> slice:
        """Return this rank's part of things that are counted once over all ranks, which may be none."""
        return slice(things * self.rank // self.count, things * (self.rank + 1) // self.count)

    def part(self, images: int) -> Part:
        """Return this rank's part of a training batch: of a small one, some ranks take what others have too."""
        takers = max(1, min(self.count, images // SMALLEST_PART))
        if self.rank >= takers:
            return Part(start=0, stop=min(images, SMALLEST_PART), whole=images, counts=False)
        start, stop = (images * rank // takers for rank in (self.rank, self.rank + 1))
        return Part(start=start, stop=stop, whole=images)

    def learner(self, module: nn.Module) -> nn.Module:
        """Return what computes as the module does, and leaves the mean of all ranks' gradients in its parameters."""
        if self.alone:
            return module
        # Some models have parameters that no loss reaches. Statistics are `average_statistics`'s affair; this name of
        # the switch is the only one that torch 2.6 knows.
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)

    def summed(self, figures: Tensor) -> Tensor:
        """Return the sum over all ranks, as float64 on the CPU."""
        own = figures.detach().to(_CPU, torch.float64)
        if self.alone:
            return own
        gathered = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(gathered, own)
        return torch.stack(gathered).sum(dim=0)

    def largest(self, figure: int) -> int:
        """Return the largest that any rank has."""
        if self.alone:
            return figure
        gathered = [torch.empty(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(gathered, torch.tensor([figure]))
        return int(torch.cat(gathered).max())

    def gathered(self, rows: Tensor, total: int) -> Tensor:
        """Return all rows [total, ...] from those of each rank's `span`, in order; on the CPU, where there are more."""
        if self.alone:
            return rows
        longest = -(-total // self.count)
        own = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype)
        own[: len(rows)] = rows.to(_CPU)
        padded = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(padded, own)
        spans = [Ranks(rank=rank, count=self.count).span(total) for rank in range(self.count)]
        return torch.cat([each[: span.stop - span.start] for each, span in zip(padded, spans, strict=True)])

    def told(self, value: Any = None) -> Any:  # noqa: ANN401 - plain values of any kind
        """Return the first rank's value; what others give does not count."""
        if self.alone:
            return value
        box = [value if self.leads else None]
        dist.broadcast_object_list(box, src=0, device=_CPU)
        return box[0]

    def state(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the first rank's state, whose tensors are sent one by one: never two copies of all."""
        if self.alone:
            return state
        tensors: list[Tensor] = []
        skeleton = self.told(_without_tensors(state, tensors) if self.leads else None)
        received: dict[str, Any] | None = state if self.leads else _with_tensors(skeleton, tensors)
        for tensor in tensors:
            dist.broadcast(tensor, src=0)
        return received

    def average_statistics(self, module: nn.Module) -> None:
        """Give all ranks the same buffers: BatchNorm's running statistics are averaged, others are the first rank's.

        Means of float32 are taken in float64: where all ranks have the same, it stays the same to the last bit.
        """
        if self.alone:
            return
        running = _running_statistics(module)
        if running:
            flat = self.summed(torch.cat([buffer.detach().flatten().to(_CPU, torch.float64) for buffer in running]))
            flat /= self.count
            for buffer, mean in zip(running, torch.split(flat, [each.numel() for each in running]), strict=True):
                buffer.copy_(mean.view_as(buffer))
        known = {id(buffer) for buffer in running}
        for buffer in module.buffers():
            if id(buffer) not in known:
                first = buffer.detach().to(_CPU, copy=True)
                dist.broadcast(first, src=0)
                buffer.copy_(first)


ALONE = Ranks()
"""A trial with one process."""


def synchronise_batchnorm(module: nn.Module, model: str) -> None:
    """Let every BatchNorm of a module normalise over the whole batch, on all ranks."""
    if model.startswith("timm:"):
        # Its own classes have an activation inside, which torch's conversion would drop.
        from timm.layers.norm_act import convert_sync_batchnorm  # noqa: PLC0415 - few trials use it

        convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    else:
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def is_lost_peer(error: BaseException) -> bool:
    """Return whether an error says that another rank is gone or silent, and nothing about this one."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _GLOO in str(error))


def _running_statistics(module: nn.Module) -> list[Tensor]:
    return [
        buffer
        for part in module.modules()
        if isinstance(part, _BatchNorm)
        for buffer in (part.running_mean, part.running_var)
        if buffer is not None
    ]


def _without_tensors(value: Any, tensors: list[Tensor]) -> Any:  # noqa: ANN401 - nested plain values
    """Return a value with its tensors replaced by places, and the tensors, on the CPU, at the end of the list."""
    if isinstance(value, Tensor):
        tensors.append(value.detach().to(_CPU).contiguous())
        return _Place(shape=tuple(value.shape), dtype=value.dtype)
    if isinstance(value, Mapping):
        return {key: _without_tensors(each, tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_tensors(each, tensors) for each in value)
    return value


def _with_tensors(value: Any, tensors: list[Tensor]) -> Any:  # noqa: ANN401 - nested plain values
    """Return a value with empty tensors in their places, which are at the end of the list too."""
    if isinstance(value, _Place):
        tensors.append(torch.empty(value.shape, dtype=value.dtype))
        return tensors[-1]
    if isinstance(value, Mapping):
        return {key: _with_tensors(each, tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(each, tensors) for each in value)
    return value
