"""Runs that nobody trained, written once for all tests of pages."""

from pathlib import Path

import pytest

from tests.made_up_run import HOSTILE, MadeUp


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of four configurations at three sizes, with three seeds."""
    return MadeUp().write(tmp_path_factory.mktemp("runs") / "made-up")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose names are meant to do harm, and whose trials ended in every way."""
    return HOSTILE.write(tmp_path_factory.mktemp("runs") / "hostile")
