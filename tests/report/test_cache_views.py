"""What `cache show` and `cache clear` say."""

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from raybench.cache import Entry, State
from raybench.eviction import Cleared, Kept
from raybench.report.cache_views import cache_notes, cache_table, cleared_lines

ROOT = Path("/data/cache")
USED = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)


def entry(state: State = State.WHOLE, size: int = 1_500_000, **description: Any) -> Entry:  # noqa: ANN401 - any JSON
    return Entry(
        kind="images",
        key="0123456789abcdef",
        folder=ROOT / "images" / "0123456789abcdef",
        disk_bytes=size,
        reserved_bytes=size,
        last_used=USED,
        description=description or None,
        state=state,
    )


def shown(*entries: Entry) -> list[str]:
    file = StringIO()
    Console(file=file, width=100).print(cache_table(entries))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_an_entry_shows_what_it_is_its_size_last_use_and_state() -> None:
    header, line = shown(entry(State.IN_USE, dataset="photos", images=833, image_size=64))
    assert header.split() == ["kind", "what", "size", "last", "used", "state"]
    assert "photos, 833 images, 64 px  1.5 MB  " in line
    assert f"{USED.astimezone():%Y-%m-%d %H:%M}" in line
    assert line.endswith("in use")


def test_an_entry_that_says_nothing_of_itself_shows_its_key() -> None:
    assert "- (0123456789ab)" in shown(entry())[1]


def test_features_show_what_they_were_made_of_and_no_hashes() -> None:
    line = shown(entry(dataset="photos", model="resnet18", images="0a1b2c", image_size=64, precision="float32"))[1]
    assert "photos, resnet18, float32, 64 px" in line
    assert "0a1b2c" not in line


def test_names_are_shown_as_text_not_as_markup_or_control_characters() -> None:
    assert "[red]a\\b, 3 images" in shown(entry(dataset="[red]a\\b", images=3))[1]
    assert "a?[2Jb" in shown(entry(dataset="a\x1b[2Jb"))[1]


def test_the_notes_give_total_folder_and_how_to_change_them() -> None:
    where, how = cache_notes([entry(), entry()], ROOT)
    assert where == "3.0 MB in /data/cache; RAYBENCH_CACHE_DIR sets another folder."
    assert "cache_limit_gb" in how
    assert "raybench cache clear" in how
    assert cache_notes([], ROOT) == ["Nothing in /data/cache; RAYBENCH_CACHE_DIR sets another folder."]


def test_clearing_says_what_went_and_what_stayed_and_why() -> None:
    kept = Kept(entry=entry(dataset="photos"), reason="a process uses it")
    assert cleared_lines(Cleared(removed=(entry(), entry()), kept=(kept,)), ROOT) == [
        "Removed 2 entries from /data/cache: 3.0 MB freed.",
        "Left images photos (1.5 MB): a process uses it.",
    ]
    assert cleared_lines(Cleared(removed=(entry(),), kept=()), ROOT) == [
        "Removed 1 entry from /data/cache: 1.5 MB freed."
    ]
    assert cleared_lines(Cleared(removed=(), kept=()), ROOT) == ["Nothing to remove from /data/cache."]
