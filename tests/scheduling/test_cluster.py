"""Ray for the length of a run: where it listens, and what is left of it."""

import os
import socket
import subprocess
import sys

import psutil
import pytest
import ray

from raybench.errors import InputError
from raybench.scheduling.cluster import check_session, ray_session, shared_ray
from raybench.scheduling.resources import Node, nodes
from tests.scheduling.listening import is_loopback, listening_addresses


def test_local_ray_listens_on_loopback_only_and_is_gone_afterwards() -> None:
    me = psutil.Process()
    before = set(me.children(recursive=True))
    variables = dict(os.environ)
    with ray_session(num_cpus=3, num_gpus=2):
        assert nodes() == [Node(cpus=3, gpus=2)]
        started = [process for process in me.children(recursive=True) if process not in before]
        addresses = listening_addresses([me, *started])
        assert addresses
        assert [address for address in addresses if not is_loopback(address)] == []

        with ray_session():  # as in a notebook that has its own Ray
            pass
        assert ray.is_initialized(), "a Ray that was there before is left alone"
        with pytest.raises(InputError, match="Ray runs in this Python process already"), ray_session(num_cpus=2):
            pass
    assert not ray.is_initialized()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert dict(os.environ) == variables


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "ray://127.0.0.1:10001", ":6379", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=f"--address: '{address}' .*give HOST:PORT"), ray_session(address=address):
        pass


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(InputError, match=f"--address: '{address}' does not answer"), ray_session(address=address):
            pass


def test_counts_do_not_go_with_an_address() -> None:
    with pytest.raises(InputError, match="has its own CPUs and GPUs"), ray_session(address="auto", num_cpus=2):
        pass


def test_importing_the_entrance_starts_nothing() -> None:
    code = (
        "import os, threading; before = dict(os.environ); import raybench.scheduling.tune, ray;"
        "assert not ray.is_initialized(); assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sessions_with_the_same_options_use_one_ray_within_a_block() -> None:
    with shared_ray(num_cpus=1):
        address = ray.get_runtime_context().gcs_address
        for _ in range(2):
            check_session(num_cpus=1, num_gpus=None, address=None)
            with ray_session(num_cpus=1) as ends:
                assert ends, "with the block"
                assert ray.get_runtime_context().gcs_address == address
            assert ray.is_initialized()
        with pytest.raises(InputError, match="Ray runs in this Python process already"):
            check_session(num_cpus=2, num_gpus=None, address=None)
    assert not ray.is_initialized()
    check_session(num_cpus=2, num_gpus=None, address=None)
