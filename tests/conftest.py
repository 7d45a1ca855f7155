"""What all tests share: a cache folder and a folder of settings of their own, so that the user's stay out of it."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No test is timed: other tests, and other users, share the machine.
settings.register_profile("untimed", deadline=None)
# `make fuzz`: pytest --hypothesis-profile fuzz, which is loaded after this file. See tests/fuzz/damage.py.
settings.register_profile(
    "fuzz", deadline=None, max_examples=2400, suppress_health_check=list(HealthCheck), print_blob=True
)
settings.load_profile("untimed")

# A shell lets what it starts in the background ignore Ctrl-C, and so would every command that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.delenv("RAYBENCH_PRICES", raising=False)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)
