"""Whether a Ray cluster can be joined at an address, found out before this process tries: Ray sets itself no limit.

In: `HOST:PORT`, or `auto`. Out: whether this process is to ask for a token there, or what is wrong and what to do.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Final

from raybench.errors import InputError
from raybench.scheduling.connections import connect, host_and_port

CONNECT_SECONDS: Final = 10
"""How long a head node may take to accept a connection."""
JOIN_SECONDS: Final = 40
"""How long Ray may take to join from there: one that does not answer as Ray would keep it busy for minutes."""
TRY_TO_JOIN: Final = """
import sys, ray
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.services import find_node_ids
from ray._raylet import GcsClient
ensure_token_if_auth_enabled(create_token_if_missing=False)
if sys.argv[1] != "auto":
    GcsClient(address=sys.argv[1])  # it says what it thinks of the token at once
    if not find_node_ids():  # Ray would wait for one for a minute, saying nothing
        sys.exit("No node info found matching attributes")
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
"""
ADDRESS_ACCEPTED: Final = "give HOST:PORT of the Ray head node of a cluster that this machine is a node of, or auto"
MODE_VARIABLE: Final = "RAY_AUTH_MODE"
BRING_IT: Final = "copy ~/.ray/auth_token of its head to this machine"
REFUSED: Final = "it asks for a token, and this process gives none or another one"
BE_A_NODE: Final = (
    "run the command on a machine of the cluster, or make this one a node of it with 'ray start --address=HOST:PORT'"
)
REASONS: Final[Mapping[str, str]] = {
    "InvalidAuthToken": REFUSED,
    "no authentication token was found": f"it asks for a token, and there is none here; {BRING_IT}",
    "No node info found matching attributes": f"this machine is no node of it; {BE_A_NODE}",
    "Could not find any running Ray instance": (
        f"no Ray runs on this machine; {BE_A_NODE}, or its head with 'ray start --head'"
    ),
    "Version mismatch": "it runs another Ray or Python than this process; install the same on every machine",
}
"""What Ray says when it cannot join, as soon as it says it: it goes on trying for half a minute."""


def reach(address: str) -> None:
    """Check that something listens there: Ray alone would try for minutes.

    Raises:
        InputError: it is no address, or nothing listens.

    """
    try:
        host, port = host_and_port(address)
    except ValueError as error:
        raise InputError(f"--address: {error}; {ADDRESS_ACCEPTED}") from None
    try:
        connect(host, port, seconds=CONNECT_SECONDS)
    except (OSError, OverflowError) as error:
        raise InputError(f"--address: {address!r} does not answer ({error}); {ADDRESS_ACCEPTED}") from error


def token_mode(address: str, *, limit_seconds: float = JOIN_SECONDS) -> str:
    """Return the value of `RAY_AUTH_MODE` with which a process of this machine can join: `disabled` or `token`.

    It has to be the cluster's own. A process that asks for a token where the cluster has none joins as well, but
    whatever it starts is lost: the cluster cannot call it. Ray asks for one wherever this machine has one, which it
    has since Ray was first started here.

    Raises:
        InputError: it cannot be joined, or the environment says otherwise than the cluster.

    """
    wanted = os.environ.get(MODE_VARIABLE)
    mode = "disabled"
    reason = why_not(address, mode=mode, limit_seconds=limit_seconds)
    if reason is None and wanted == "token":
        reason = f"it asks for no token, but {MODE_VARIABLE}=token is set here; unset it, or start the cluster with it"
    elif reason == REFUSED and wanted not in {None, "token"}:
        reason = f"it asks for a token, but {MODE_VARIABLE}={wanted} is set here; unset it"
    elif reason == REFUSED:
        mode = "token"
        reason = why_not(address, mode=mode, limit_seconds=limit_seconds)
        if reason == REFUSED:
            reason = f"it asks for a token, and {_another_token()}"
    if reason is not None:
        raise InputError(f"--address: {address!r} cannot be joined: {reason}")
    return mode


def _another_token() -> str:
    """Return where the token that this process gives comes from, and what to do about it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN is set to another one; set it to that of its head, or let ~/.ray/auth_token count"
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path:
        return f"{path}, which RAY_AUTH_TOKEN_PATH names, holds another one; {BRING_IT}, and unset the variable"
    return f"~/.ray/auth_token of this machine holds another one; {BRING_IT}"


def why_not(address: str, *, mode: str, limit_seconds: float = JOIN_SECONDS) -> str | None:
    """Return what keeps a process from joining that asks for a token, or does not; None where it can.

    It is tried in a process of its own, which can be ended.
    """
    until = time.monotonic() + limit_seconds
    lines: queue.Queue[str | None] = queue.Queue()
    said: list[str] = []
    with _attempt(address, mode) as attempt:
        assert attempt.stderr is not None  # noqa: S101 - asked for below
        threading.Thread(target=_read, args=(attempt.stderr, lines), daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return f"what listens there did not answer as Ray within {limit_seconds:g} s; {ADDRESS_ACCEPTED}"
            if line is None:
                break
            said.append(line)
            for sign, reason in REASONS.items():
                if sign in line:
                    return reason
        return None if attempt.wait() == 0 else f"{last_line(''.join(said))}; {ADDRESS_ACCEPTED}"


def last_line(text: str) -> str:
    """Return the last line of what somebody said."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"


@contextmanager
def _attempt(address: str, mode: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(  # noqa: S603 - this Python
        [sys.executable, "-c", TRY_TO_JOIN, address],
        env={**os.environ, MODE_VARIABLE: mode},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as attempt:
        try:
            yield attempt
        finally:
            attempt.kill()


def _read(stream: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)
