"""A cluster that asks for a token: who brings it may join, everybody else is told what to bring, at once."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from raybench.scheduling.joining import why_not
from tests.cluster.raylets.heads import TOKEN, free_port, started_head

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


@pytest.mark.usefixtures("home")
def test_who_brings_the_token_may_join(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert why_not(address) is None


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": ANOTHER}, "this process gives none or another one; copy"),
        ({}, "this process gives none or another one; copy"),
        ({"RAY_AUTH_MODE": "token"}, "there is no token here, though RAY_AUTH_MODE asks for one; copy"),
    ],
    ids=["another", "none", "none, though asked for"],
)
def test_who_brings_no_token_or_another_is_told_so_before_ray_gives_up(
    address: str, variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    reason = why_not(address, limit_seconds=SOON_SECONDS)
    assert reason is not None
    assert said in reason
    assert "~/.ray/auth_token of its head" in reason


def test_what_is_no_ray_is_given_up_within_the_time_that_is_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reason = why_not(f"127.0.0.1:{silent.getsockname()[1]}", limit_seconds=2)
    assert reason is not None
    assert reason.startswith("what listens there did not answer as Ray within 2 s; give HOST:PORT")
