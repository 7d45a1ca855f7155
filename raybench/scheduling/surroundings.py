"""What a user should know of the Ray that a run uses, and of one that it does not: addresses in, sentences out."""

import ipaddress
import os
import socket

from ray._private.utils import read_ray_address

from raybench.scheduling.cluster import head_address
from raybench.scheduling.connections import accepts, host_and_port
from raybench.scheduling.joining import MODE_VARIABLE


def note(address: str | None) -> str | None:
    """Return what is odd about the Ray that was started (`address` is None) or joined; None: nothing."""
    if address is None:
        return cluster_beside()
    return open_cluster(head_address(), mode=os.environ.get(MODE_VARIABLE))


def cluster_beside() -> str | None:
    """Say that a cluster runs on this machine, which `ray start` notes in a file; None where none does."""
    try:
        address = read_ray_address()
        if not address or not accepts(*host_and_port(address)):
            return None
    except (OSError, ValueError):  # whoever wrote it, it is no address
        return None
    return (
        f"A Ray cluster runs on this machine, at {address}, and this run starts a Ray of its own beside it: --address "
        "auto would run on the cluster"
    )


def open_cluster(head: str, *, mode: str | None) -> str | None:
    """Say that others can use a cluster that asks for no token; None where it does, or nobody else reaches it.

    Args:
        head: `HOST:PORT`.
        mode: how this process joined, a value of `RAY_AUTH_MODE`.

    """
    if mode == "token" or _is_loopback(host_and_port(head)[0]):
        return None
    return (
        f"The cluster at {head} asks for no token: whoever reaches that port can run code on its machines; start Ray "
        f"with {MODE_VARIABLE}=token on each"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0]).is_loopback
    except OSError:
        return False
