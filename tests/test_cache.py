"""Where the cache lies, and who uses its entries: a claim lasts as long as its process, however that ends."""

from pathlib import Path

import pytest

from raybench.cache import cache_root


def test_the_cache_lies_where_asked_then_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "environment"))
    assert cache_root(tmp_path / "asked") == tmp_path / "asked"
    assert cache_root() == tmp_path / "environment"
    monkeypatch.delenv("RAYBENCH_CACHE_DIR")
    assert cache_root().name == "raybench"
