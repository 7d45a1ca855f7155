"""A cluster that starts its workers when they are asked for: the first of each kind is asked for, and waited for.

In: what each trial asks for, and the machines that Ray has. Out: at least one machine for every model's trials, or one
error. Where machines are there already, or nobody would start any, there is nothing to wait for.

Later machines come by themselves: Ray's autoscaler starts them for trials that wait. See `raybench.scheduling.queue`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import ray
from ray.autoscaler.sdk import request_resources
from ray.core.generated import autoscaler_pb2

from raybench.errors import InputError
from raybench.events import Notice
from raybench.formats import clock_text, joined
from raybench.records import ResourceRequest
from raybench.scheduling.resources import (
    ACCELERATOR_LABEL,
    Node,
    Share,
    asked_kinds,
    count_places,
    label_selector,
    nodes,
)

WAIT_SECONDS: Final = 30 * 60
"""How long the first machine may take: a cloud's spot machine, with torch to install, takes five to fifteen minutes."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at what is there."""
TELL_SECONDS: Final = 30
"""Between two notices."""
SPARE: Final = 32
"""Trials that wait on an autoscaled cluster: eight machines' worth at a quarter of a GPU each, started at once."""
STATUS_SECONDS: Final = 10
"""How long Ray may take to say what its autoscaler does."""


def wait_for_machines(
    request: ResourceRequest,
    *,
    tell: Callable[[Notice], None],
    machines: Callable[[], Sequence[Node]] = nodes,
    limit_seconds: float = WAIT_SECONDS,
) -> None:
    """Wait until every model's trials have a machine, where an autoscaler can start one.

    Raises:
        InputError: it can start none, or did not in time.

    """
    missing = _missing(request, machines())
    if not missing or not is_autoscaled(machines()):
        return
    began, told = time.monotonic(), 0
    _ask_for(missing)
    try:
        while missing:
            waited = time.monotonic() - began
            refused = _infeasible()
            if refused:
                raise InputError(
                    f"resources: this cluster can start no machine with {joined(refused)}; ask for less, for another "
                    "accelerator, or add such a machine to its available_node_types"
                )
            if waited > limit_seconds:
                raise InputError(
                    f"the cluster started no machine with {joined([_text(each) for each in missing])} within "
                    f"{limit_seconds / 60:.0f} min; 'ray status' on its head tells why (quota, spot capacity, set-up)"
                )
            if waited >= told * TELL_SECONDS:
                wanted, told = joined([_text(each) for each in missing]), told + 1
                since = f", {clock_text(waited)} so far" if told > 1 else ""
                tell(Notice(text=f"Waiting for the cluster to start a machine with {wanted}{since}"))
            time.sleep(LOOK_SECONDS)
            missing = _missing(request, machines())
    finally:
        _ask_for([])  # from now on, what trials ask for counts


def spare(request: ResourceRequest) -> int:
    """Return how many trials wait beyond those that fit: they make a cluster grow that can.

    One at a time of several workers each: while it waits it has processes of its own already.
    """
    if not is_autoscaled(nodes()):
        return 0
    return SPARE if request.workers == 1 else 1


def _missing(request: ResourceRequest, machines: Sequence[Node]) -> list[Share]:
    """Return the least that a trial needs, of each choice of accelerators for which no machine is there."""
    cpu, gpu = request.cpu or 1, request.gpu or 0
    needed = [Share(cpu=cpu, gpu=gpu, workers=request.workers, accelerators=kinds) for kinds in asked_kinds(request)]
    return [share for share in needed if not count_places(share, machines)]


def _ask_for(shares: Sequence[Share]) -> None:
    each = [share for share in shares for _ in range(share.workers)]
    bundles = [{"CPU": share.cpu, "GPU": share.gpu} if share.gpu else {"CPU": share.cpu} for share in each]
    request_resources(bundles=bundles, bundle_label_selectors=[label_selector(share.accelerators) for share in each])


def _text(share: Share) -> str:
    gpu = [f"{share.gpu:g} GPU"] if share.gpu else []
    times = [] if share.workers == 1 else [f"for each of {share.workers} workers"]
    return _described(share.accelerators, [f"{share.cpu:g} CPU", *gpu, *times])


def _described(kinds: Sequence[str], amounts: Sequence[str]) -> str:
    return f"{' or '.join(kinds)} ({', '.join(amounts)})" if kinds else joined([*amounts])


def is_autoscaled(machines: Sequence[Node]) -> bool:
    """Return whether machines may be started for trials that wait: a launcher of clusters has started some already.

    Ray's autoscaler itself runs everywhere, even where all that it can do is to look on.
    """
    return any(machine.group for machine in machines)


def _infeasible() -> list[str]:
    """Return what the autoscaler says no kind of machine of its could give; the older one does not tell."""
    found = []
    for constraint in _state().infeasible_cluster_resource_constraints:
        for asked in constraint.resource_requests:
            amounts = [f"{amount:g} {name}" for name, amount in sorted(asked.request.resources_bundle.items())]
            labels = [label for selector in asked.request.label_selectors for label in selector.label_constraints]
            kinds = [kind for each in labels if each.label_key == ACCELERATOR_LABEL for kind in each.label_values]
            found.append(_described(kinds, amounts))
    return found


def _state() -> Any:  # noqa: ANN401 - a protocol buffer
    messages: Any = autoscaler_pb2
    worker: Any = ray._private.worker.global_worker  # noqa: SLF001 - as `ray status` asks
    client, reply = worker.gcs_client, messages.GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=STATUS_SECONDS))
    return reply.autoscaling_state
