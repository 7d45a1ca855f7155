from collections.abc import Iterator
from pathlib import Path

import pytest

from raybench.lease import Lease
from raybench.log_parts import MOST_BYTES
from raybench.mirror import bring_all, mirror_of, opened, publish_log, run_folder
from tests.stores import object_store

LINE = "x" * 99 + "\n"


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "here"))
    with object_store(monkeypatch) as bucket:
        yield f"{bucket}/run"


def append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    publish_log(path)


def there(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str) -> Path:
    """Return the run directory as another machine reads it."""
    with monkeypatch.context() as other:
        other.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / machine))
        return opened(uri)


def stored_bytes(path: Path) -> dict[str, int]:
    """Return the sizes of a log's parts in the store."""
    mirror = mirror_of(path)
    assert mirror is not None
    names = [name for name, _ in mirror.names("") if name.startswith(path.name)]
    parts = {}
    for name in names:
        with mirror._system.open_input_stream(mirror._path(path.with_name(name))) as file:  # noqa: SLF001
            parts[name] = len(file.read())
    return parts


def test_every_line_is_in_the_store_when_it_is_published_and_costs_no_more_than_a_tail(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = run_folder(uri) / "decisions.jsonl"
    text = ""
    for number in range(3 * MOST_BYTES // len(LINE) + 7):
        text += f"{number:04d}{LINE}"
        append(log, f"{number:04d}{LINE}")
        if number % 50 == 0:
            reader = there(uri, tmp_path, monkeypatch, f"machine {number}")
            assert (reader / "decisions.jsonl").read_text() == text
            assert stored_bytes(log).get("decisions.jsonl.tail", 0) <= MOST_BYTES + len("1000000\n")
    reader = there(uri, tmp_path, monkeypatch, "machine 0")
    assert (reader / "decisions.jsonl").read_text() == text, "where an earlier state was brought before"


def test_next_session_on_another_machine_goes_on_behind_the_last_line(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = run_folder(uri) / "ledger.jsonl"
    append(log, "a\n")
    append(log, "b\n")
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "elsewhere"))
    with Lease(run_folder(uri)):
        ours = run_folder(uri) / "ledger.jsonl"
        assert ours.read_text() == "a\nb\n"
        append(ours, "c\n")
        append(ours, "d\n")
        assert len(stored_bytes(ours)) == 2
    assert stored_bytes(ours) == {"ledger.jsonl": 8}, "once nobody writes, it is one file"
    assert (bring_all(log.parent) / "ledger.jsonl").read_text() == "a\nb\nc\nd\n"


def test_tail_of_another_log_adds_nothing(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = run_folder(uri) / "decisions.jsonl"
    append(log, "a\n")
    append(log, "b\n")
    log.write_text("x\ny\n")
    mirror = mirror_of(log)
    assert mirror is not None
    mirror.put(log, log)
    assert (there(uri, tmp_path, monkeypatch, "machine") / "decisions.jsonl").read_text() == "x\ny\n"
