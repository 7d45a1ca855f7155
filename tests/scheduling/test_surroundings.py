"""What is said of a cluster that a run does not use, and of one that anybody can use."""

import socket
from pathlib import Path

import pytest
from ray._common.utils import get_ray_address_file
from ray._private.utils import write_ray_address

from raybench.scheduling.surroundings import cluster_beside, open_cluster


def test_a_cluster_beside_a_run_is_told_of_while_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where `ray start` notes an address
    noted = Path(get_ray_address_file(None))
    noted.parent.mkdir(parents=True, exist_ok=True)
    assert cluster_beside() is None
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        write_ray_address(address)
        said = cluster_beside()
    assert said is not None
    assert said.startswith(f"A Ray cluster runs on this machine, at {address}, and this run starts a Ray of its own")
    assert "--address auto" in said
    assert noted.is_relative_to(tmp_path)
    assert noted.read_text() == address
    assert cluster_beside() is None, "nothing listens there any more"
    for text in ("no address", "host:", ""):
        noted.write_text(text)
        assert cluster_beside() is None


@pytest.mark.parametrize("head", ["10.0.0.11:6379", "[fd00::1]:6379", "no-such-host.invalid:6379"])
def test_a_cluster_that_asks_for_no_token_is_told_of_where_others_can_reach_it(head: str) -> None:
    said = open_cluster(head, mode="disabled")
    assert said is not None
    assert said.startswith(f"The cluster at {head} asks for no token")
    assert open_cluster(head, mode="token") is None


@pytest.mark.parametrize("head", ["127.0.0.1:6379", "localhost:6379", "[::1]:6379"])
def test_where_nobody_else_reaches_it_no_token_is_needed(head: str) -> None:
    assert open_cluster(head, mode="disabled") is None
