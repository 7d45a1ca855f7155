"""The watch over a head that stops answering, with a clock and answers that nobody has to wait for."""

import socket
import threading
from collections.abc import Callable

import pytest

from raybench.scheduling.connections import accepts
from raybench.scheduling.head_watch import GONE_SECONDS, HeadWatch

ADDRESS = "10.0.0.1:6379"


def watch(answers: Callable[[float], bool], *, until: float) -> list[str]:
    """Watch a head that answers by the second, and return what was told until that second, or the end."""
    now, said, over = [-1.0], [], threading.Event()

    def answer(host: str, port: int) -> bool:
        assert f"{host}:{port}" == ADDRESS
        now[0] += 1
        if now[0] >= until:
            over.set()
        return answers(now[0])

    def end(text: str) -> None:
        said.append(f"{now[0]:.0f} s: {text}")
        over.set()

    watching = HeadWatch(tell=said.append, end=end, answers=answer, clock=lambda: now[0], look_seconds=0.001)
    with watching:
        watching.follow(ADDRESS)
        assert over.wait(20)
    return said


def test_a_head_that_answers_is_no_news() -> None:
    assert watch(lambda _: True, until=100) == []


def test_a_short_silence_is_no_news() -> None:
    assert watch(lambda now: int(now) % 6 == 0, until=300) == []


def test_a_head_that_comes_back_is_told_of_once_each_time() -> None:
    silent = f"The head of the cluster at {ADDRESS} does not answer; the run ends if that lasts for 45 s"
    again = f"The head of the cluster at {ADDRESS} answers again"
    said = watch(lambda now: not (10 < now < 50 or 60 < now < 100), until=200)
    assert said == [silent, again, silent, again]


@pytest.mark.parametrize("since", [3, 40])
def test_a_head_that_stays_away_ends_the_run(since: float) -> None:
    said = watch(lambda now: now <= since, until=1000)
    assert len(said) == 2
    assert said[1] == (
        f"{since + GONE_SECONDS + 1:.0f} s: the head of the cluster at {ADDRESS} is gone; what was finished is kept: "
        "once a head is there again, run it again to go on"
    )


def test_what_listens_answers_and_what_does_not_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert accepts("127.0.0.1", port)
    assert not accepts("127.0.0.1", port)
