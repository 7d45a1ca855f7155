"""A cluster that asks for a token: who brings it may join, everybody else is told what to bring, at once."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from raybench.errors import InputError
from raybench.records import Verdict
from raybench.scheduling.cluster import ray_session
from raybench.scheduling.decisions import find_desk, open_desk
from raybench.scheduling.joining import BRING_IT, token_mode
from tests.raylets.heads import TOKEN, free_port, started_head

ANOTHER = "b" * 64
SOON_SECONDS = 15
"""Ray itself goes on trying for 20."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where the head of such a cluster listens."""
    with started_head(tmp_path_factory.mktemp("r"), free_port(), "--num-cpus=1") as address:
        yield address


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this machine have no token of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def open_address() -> Iterator[str]:
    """Return where the head of a cluster listens that asks for no token."""
    rays = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        yield rays.address
    finally:
        rays.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("variables", [{"RAY_AUTH_MODE": "token"}, {}], ids=["asked for", "there"])
def test_who_brings_the_token_may_join(
    address: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert token_mode(address) == "token"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": ANOTHER},
            "and RAY_AUTH_TOKEN is set to another one; set it",
        ),
        (
            {"RAY_AUTH_TOKEN_PATH": "token"},
            "and token, which RAY_AUTH_TOKEN_PATH names, holds another one; copy",
        ),
        ({}, f"and there is none here; {BRING_IT}"),
        ({"RAY_AUTH_MODE": "token"}, f"and there is none here; {BRING_IT}"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN}, "but RAY_AUTH_MODE=disabled is set here; unset it"),
    ],
    ids=["another", "another in a file", "none", "none, though asked for", "not asked for"],
)
def test_who_brings_no_token_or_another_is_told_so_before_ray_gives_up(
    address: str, home: Path, variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "token").write_text(ANOTHER)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        token_mode(address, limit_seconds=SOON_SECONDS)
    assert str(refused.value).startswith(f"--address: {address!r} cannot be joined: it asks for a token, {said}")


def test_what_is_no_ray_is_given_up_within_the_time_that_is_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InputError) as refused:
        token_mode(f"127.0.0.1:{silent.getsockname()[1]}", limit_seconds=2)
    assert "what listens there did not answer as Ray within 2 s; give HOST:PORT" in str(refused.value)


@pytest.mark.usefixtures("home")
def test_a_cluster_without_token_is_joined_though_this_machine_has_one(
    open_address: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text(TOKEN)
    assert token_mode(open_address) == "disabled"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(InputError, match="it asks for no token, but RAY_AUTH_MODE=token is set here; unset it"):
        token_mode(open_address)


def test_a_process_that_asked_for_a_token_before_can_use_a_cluster_without_one(open_address: str) -> None:
    with ray_session(num_cpus=1), open_desk(None) as desk:
        assert asked(desk) == Verdict.GO_ON
    with ray_session(address=open_address), open_desk(None) as desk:
        assert asked(desk) == Verdict.GO_ON, "the cluster could call this process"
    with ray_session(num_cpus=1), open_desk(None) as desk:
        assert asked(desk) == Verdict.GO_ON


def asked(desk: str) -> str:
    answer: str = ray.get(  # type: ignore[assignment]
        find_desk(desk).ask.remote("trial", 1), timeout=60
    )
    return answer
