"""Addresses of Ray's processes: text in, host and port or whether something listens there out."""

import socket
from typing import Final

ANSWER_SECONDS: Final = 2.0
"""How long a process of Ray may take to accept a connection; no more than a driver can wait for one."""


def host_and_port(address: str) -> tuple[str, int]:
    """Return both parts of `HOST:PORT`, where HOST may be an IPv6 address in brackets. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise ValueError(f"{address!r} is no address")
    return host.strip("[]"), int(port)


def connect(host: str, port: int, *, seconds: float = ANSWER_SECONDS) -> None:
    """Connect, and leave again. Raises OSError, and OverflowError for a port that cannot be."""
    with socket.create_connection((host, port), timeout=seconds):
        pass


def accepts(host: str, port: int) -> bool:
    """Return whether something there takes connections within `ANSWER_SECONDS`."""
    try:
        connect(host, port)
    except OSError:
        return False
    return True
