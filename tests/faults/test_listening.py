"""While a real run trains, none of its processes can be reached from another machine."""

import os
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.commands import start
from tests.scheduling.listening import is_loopback, listening_addresses

pytestmark = pytest.mark.minutes

EXPERIMENT = """
name: held
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]
models: ["network_of_a_test:Held"]
strategies: [fine-tune]
training: {epochs: 1}
resources: {measure: false}
"""
NETWORK = '''
"""A network that says that it learns, and does not end before it is told to."""

import time
from pathlib import Path

from torch import nn


class Held(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(144, num_classes)

    def forward(self, images):
        if self.training:
            Path("learns").touch()
            while not Path("go").exists():
                time.sleep(0.05)
        return self.head(self.body(images).flatten(1))
'''
LONGEST_SECONDS = 120


def processes_of(driver: psutil.Process) -> list[psutil.Process]:
    """The driver and all that it started: those below it, and those of its session whose parent has ended."""
    session = [each for each in psutil.process_iter() if _session(each.pid) == driver.pid]
    return list({*session, driver, *driver.children(recursive=True)})


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def test_no_process_of_a_run_can_be_reached_from_another_machine(tmp_path: Path) -> None:
    (tmp_path / "held.yaml").write_text(EXPERIMENT)
    (tmp_path / "network_of_a_test.py").write_text(NETWORK)
    command = start("run", "held.yaml", "--num-cpus", "2", folder=tmp_path)
    try:
        give_up_at = time.monotonic() + LONGEST_SECONDS
        while not (tmp_path / "learns").exists():
            assert command.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        processes = processes_of(psutil.Process(command.pid))
        addresses = listening_addresses(processes)
        names = " ".join(" ".join(process.cmdline()) for process in processes if process.is_running())
    finally:
        (tmp_path / "go").touch()
        out, err = command.communicate(timeout=LONGEST_SECONDS)
    assert command.returncode == 0, out + err
    assert addresses
    assert [address for address in addresses if not is_loopback(address)] == []
    for part in ("raybench", "gcs_server", "raylet", "ray::"):
        assert part in names, "the process that this is about was looked at"


@pytest.mark.parametrize(
    ("family", "address", "is_open"),
    [
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET, "0.0.0.0", True),  # noqa: S104 - for a moment, and nobody answers
        (socket.AF_INET6, "::1", False),
        (socket.AF_INET6, "::", True),
    ],
)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_others_can_reach_is_seen(
    family: socket.AddressFamily, address: str, is_open: bool, kind: socket.SocketKind
) -> None:
    me = psutil.Process()
    if family is socket.AF_INET6 and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with socket.socket(family, kind) as opened:
        opened.bind((address, 0))
        if kind is socket.SOCK_STREAM:
            opened.listen()
        assert address in listening_addresses([me])
    assert is_loopback(address) is not is_open
