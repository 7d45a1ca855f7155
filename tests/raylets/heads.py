"""The head of a Ray cluster that asks for a token, started on this machine as a user would."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.hosts import wait_until

TOKEN = "a" * 64
TOKEN_VARIABLES = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
END_SECONDS = 3
"""Ray itself takes half a minute."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def started_head(folder: Path, port: int, *options: str, variables: Mapping[str, str] | None = None) -> Iterator[str]:
    """Start a head that keeps its files in a folder, and yield its address; it ends with the `with` block."""
    ray = str(Path(sys.executable).with_name("ray"))
    fixed = ["start", "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}", "--block"]
    environment = {**os.environ, **TOKEN_VARIABLES, **(variables or {})}
    said = folder / "said"
    with said.open("w") as output:
        head = subprocess.Popen(
            [ray, *fixed, *options], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: "Ray runtime started" in said.read_text(), "a head", seconds=60, every=0.2)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
