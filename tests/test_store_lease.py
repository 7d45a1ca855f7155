"""One writer a run directory in an object store, on a store that speaks Amazon's protocol."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from raybench import store_lease
from raybench.mirror import Mirror
from raybench.store_lease import HeldError, StoreLease
from tests.stores import object_store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch, object_store(monkeypatch) as uri:
        yield uri


@pytest.fixture
def machines(bucket: str, tmp_path: Path, request: pytest.FixtureRequest) -> list[Mirror]:
    """Return the same run directory as eight machines have it."""
    return [Mirror(tmp_path / str(number), f"{bucket}/{request.node.name}") for number in range(8)]


def test_whoever_comes_second_hears_who_holds_it_and_gets_it_afterwards(machines: list[Mirror]) -> None:
    first, second = StoreLease(machines[0], "the first"), StoreLease(machines[1], "the second")
    first.acquire()
    with pytest.raises(HeldError) as refused:
        second.acquire()
    assert refused.value.holder == b"the first"
    first.release()
    second.acquire()
    second.release()
    assert list(machines[0].names(store_lease.LEASES)) == []


def test_of_many_that_come_at_once_no_more_than_one_gets_it(machines: list[Mirror]) -> None:
    leases = [StoreLease(mirror, str(number)) for number, mirror in enumerate(machines)]
    start = threading.Barrier(len(leases))
    got: list[int] = []

    def try_it(number: int) -> None:
        start.wait()
        try:
            leases[number].acquire()
        except HeldError:
            return
        got.append(number)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(len(leases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(got) == 1
    leases[got[0]].release()


def test_a_holder_that_shows_no_sign_of_life_is_dead(machines: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_lease, "STALE", timedelta(seconds=3))
    dead = StoreLease(machines[0], "the dead", heartbeat_seconds=3600)
    dead.acquire()
    living = StoreLease(machines[1], "the living", heartbeat_seconds=0.5)
    with pytest.raises(HeldError):
        living.acquire()
    time.sleep(4)  # the store counts in whole seconds
    living.acquire()
    time.sleep(4)
    with pytest.raises(HeldError) as refused:
        StoreLease(machines[2], "the late").acquire()
    assert refused.value.holder == b"the living", "it gives signs of life"
    living.release()
    dead.release()
