"""The cache stays within its limit: what was used longest ago goes first, what is in use or not ours never."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.cache import MARKER, Claim, State, create, entries, entry_folder, use
from raybench.errors import InputError
from raybench.eviction import clear, find_space, make_room, parse_age, remove
from tests.test_cache import holder

NOW = datetime(2026, 1, 31, tzinfo=UTC)
BLOCK = 4096
"""Bytes that a file system gives at least."""
MARKER_BYTES = BLOCK
"""An entry takes a block for its marker beside its content."""


def key(number: int) -> str:
    return f"{number:032x}"


def make(root: Path, number: int, blocks: int = 1, *, kind: str = "images", days_ago: float = 0.0) -> Path:
    """Make an entry of so many blocks beside its marker, used last so many days before `NOW`."""
    folder = entry_folder(kind, key(number), root)
    create(folder).close()
    (folder / "train.u8").write_bytes(b"x" * blocks * BLOCK)
    used(folder, days_ago)
    return folder


def used(folder: Path, days_ago: float) -> None:
    seconds = (NOW - timedelta(days=days_ago)).timestamp()
    os.utime(folder, (seconds, seconds))


def claimed(folder: Path) -> Claim:
    claim = use(folder)
    assert claim is not None
    return claim


def numbers(root: Path) -> list[int]:
    """Return the entries that are there, by number."""
    return sorted(int(entry.key, 16) for entry in entries(root))


def test_entries_say_what_they_are_those_used_last_first(tmp_path: Path) -> None:
    make(tmp_path, 1, 3, days_ago=2)
    features = make(tmp_path, 2, 2, kind="features", days_ago=1)
    (features / "about.json").write_text(json.dumps({"model": "resnet8"}))
    used(features, 1)
    partial = make(tmp_path, 3)
    partial.rename(partial.with_name(f"{partial.name}.partial"))
    first, second, third = entries(tmp_path)
    assert (first.key, first.state) == (key(3), State.PARTIAL)
    assert (second.kind, second.description) == ("features", {"model": "resnet8"})
    assert (third.kind, third.key, third.state, third.description) == ("images", key(1), State.WHOLE, None)
    assert third.last_used == NOW - timedelta(days=2)
    assert third.disk_bytes == third.reserved_bytes == 3 * BLOCK + MARKER_BYTES
    assert entries(tmp_path, ["features"]) == [second]


def test_no_cache_folder_holds_no_entries(tmp_path: Path) -> None:
    assert entries(tmp_path / "gone") == []
    assert make_room(tmp_path / "gone", BLOCK, BLOCK)
    assert clear(tmp_path / "gone").removed == ()
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("content", ["[1]", "{", "\xff"])
def test_a_description_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (make(tmp_path, 1) / "meta.json").write_text(content, encoding="latin-1")
    assert entries(tmp_path)[0].description is None


def test_holes_in_a_file_count_only_while_somebody_may_fill_them(tmp_path: Path) -> None:
    folder = make(tmp_path, 1)
    os.truncate(folder / "train.u8", 1000 * BLOCK)
    (entry,) = entries(tmp_path)
    assert entry.disk_bytes == entry.reserved_bytes == BLOCK + MARKER_BYTES
    with claimed(folder):
        (entry,) = entries(tmp_path)
    assert entry.disk_bytes == BLOCK + MARKER_BYTES
    assert 1000 * BLOCK < entry.reserved_bytes <= 1000 * BLOCK + MARKER_BYTES


def test_what_was_used_longest_ago_goes_first_and_no_more_than_needed(tmp_path: Path) -> None:
    for number, days_ago in ((1, 1), (2, 4), (3, 3), (4, 2)):
        make(tmp_path, number, 2, days_ago=days_ago)
    limit = sum(entry.disk_bytes for entry in entries(tmp_path))
    assert make_room(tmp_path, limit, 0)
    assert numbers(tmp_path) == [1, 2, 3, 4]
    assert make_room(tmp_path, limit, 4 * BLOCK)
    assert numbers(tmp_path) == [1, 4]


def test_using_an_entry_saves_it_from_going_first(tmp_path: Path) -> None:
    for number in (1, 2):
        make(tmp_path, number, days_ago=10 - number)
    claimed(entry_folder("images", key(1), tmp_path)).close()
    assert make_room(tmp_path, sum(entry.disk_bytes for entry in entries(tmp_path)), BLOCK)
    assert numbers(tmp_path) == [1]


def test_what_is_in_use_stays_and_nothing_goes_where_that_leaves_no_room(tmp_path: Path) -> None:
    make(tmp_path, 1, 8, days_ago=9)
    make(tmp_path, 2, 1)
    with claimed(entry_folder("images", key(1), tmp_path)):
        assert not make_room(tmp_path, 10 * BLOCK, 5 * BLOCK)
        assert numbers(tmp_path) == [1, 2]
        assert find_space(tmp_path, 10 * BLOCK).available_bytes == BLOCK
        assert find_space(tmp_path, 10 * BLOCK).in_use_bytes == 9 * BLOCK
    assert make_room(tmp_path, 10 * BLOCK, 10 * BLOCK)
    assert numbers(tmp_path) == []


def test_an_entry_never_fits_where_it_is_larger_than_the_limit(tmp_path: Path) -> None:
    make(tmp_path, 1)
    assert not make_room(tmp_path, 10 * BLOCK, 11 * BLOCK)
    assert numbers(tmp_path) == [1]


def test_without_a_limit_the_disk_is_one(tmp_path: Path) -> None:
    make(tmp_path, 1)
    assert make_room(tmp_path, None, BLOCK)
    assert not make_room(tmp_path, None, 1 << 60)
    assert not make_room(tmp_path, 1 << 61, 1 << 60)
    assert numbers(tmp_path) == [1]


def test_the_entry_that_is_being_made_neither_counts_nor_goes(tmp_path: Path) -> None:
    folder = make(tmp_path, 1, 5, days_ago=9)
    assert make_room(tmp_path, 10 * BLOCK, 10 * BLOCK, without=folder)
    assert numbers(tmp_path) == [1]


def test_two_that_ask_at_the_same_moment_count_what_the_other_has_reserved(tmp_path: Path) -> None:
    claims = []
    for number in (1, 2):
        folder = entry_folder("features", key(number), tmp_path)
        claims.append(create(folder))
        (folder / "features.f32").touch()
        os.truncate(folder / "features.f32", 6 * BLOCK)
    asked = [
        make_room(tmp_path, 10 * BLOCK, 6 * BLOCK, without=entry_folder("features", key(n), tmp_path)) for n in (1, 2)
    ]
    assert asked == [False, False]
    claims[1].close()
    assert make_room(tmp_path, 10 * BLOCK, 6 * BLOCK, without=entry_folder("features", key(1), tmp_path))


def test_an_entry_that_another_process_uses_stays_until_that_is_killed(tmp_path: Path) -> None:
    folder = make(tmp_path, 1)
    with holder(folder) as process:
        assert [entry.state for entry in entries(tmp_path)] == [State.IN_USE]
        assert not make_room(tmp_path, BLOCK, BLOCK)
        assert [kept.reason for kept in clear(tmp_path).kept] == ["a process uses it"]
        process.kill()
        process.wait()
        assert [entry.state for entry in entries(tmp_path)] == [State.WHOLE]
        assert make_room(tmp_path, BLOCK, BLOCK)
    assert numbers(tmp_path) == []


OPEN_AND_EVICT = """
import sys, time
from pathlib import Path
from raybench.cache import create, use
from raybench.eviction import make_room
root, folder, opens = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "open"
seen = 0
deadline = time.monotonic() + 60
while seen < 200 and time.monotonic() < deadline:
    if opens:
        claim = use(folder)
        if claim is None:
            claim = create(folder)
            (folder / "pixels.u8").write_bytes(b"whole")
        # Once claimed, an entry stays as it is: content that was there is there.
        if (folder / "pixels.u8").exists():
            seen += 1
            time.sleep(0.001)
            assert (folder / "pixels.u8").read_bytes() in (b"", b"whole")
            assert folder.exists()
        claim.close()
    else:
        seen += 1
        make_room(root, 1, 1)
        time.sleep(0.001)
print(seen)
"""


def test_an_opener_finds_an_entry_whole_or_not_at_all_while_another_process_evicts(tmp_path: Path) -> None:
    folder = entry_folder("images", key(1), tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_EVICT, str(tmp_path), str(folder), what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for what in ("open", "evict", "open")
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert make_room(tmp_path, 1, 1)
    assert list((tmp_path / "images").iterdir()) == []


def test_clear_removes_all_that_nobody_uses_and_says_what_it_left(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    make(tmp_path, 2, 3, kind="features")
    with claimed(make(tmp_path, 3)):
        cleared = clear(tmp_path)
    assert sorted(entry.key for entry in cleared.removed) == [key(1), key(2)]
    assert cleared.freed_bytes == 5 * BLOCK + 2 * MARKER_BYTES
    assert [(kept.entry.key, kept.reason) for kept in cleared.kept] == [(key(3), "a process uses it")]
    assert numbers(tmp_path) == [3]


def test_clear_can_be_limited_to_a_kind_and_to_what_was_not_used_for_long(tmp_path: Path) -> None:
    make(tmp_path, 1, days_ago=40)
    make(tmp_path, 2, days_ago=20)
    make(tmp_path, 3, kind="features", days_ago=40)
    clear(tmp_path, ["images"], older_than=timedelta(days=30), now=NOW)
    assert numbers(tmp_path) == [2, 3]
    clear(tmp_path, ["features"])
    assert numbers(tmp_path) == [2]


def test_clear_leaves_what_is_being_made_and_takes_what_was_interrupted(tmp_path: Path) -> None:
    partial = entry_folder("images", f"{key(1)}.partial", tmp_path)
    lock = partial.with_name(f"{key(1)}.lock")
    with create(partial), FileLock(lock):
        assert [kept.reason for kept in clear(tmp_path).kept] == ["a process uses it"]
        assert partial.exists()
        assert lock.exists()
    assert [entry.state for entry in clear(tmp_path).removed] == [State.PARTIAL]
    assert list((tmp_path / "images").iterdir()) == []


def test_clear_leaves_a_lock_file_that_somebody_holds_and_that_of_an_entry_that_stays(tmp_path: Path) -> None:
    with claimed(make(tmp_path, 1)), FileLock(tmp_path / "images" / f"{key(2)}.lock"):
        (tmp_path / "images" / f"{key(1)}.lock").touch()
        (tmp_path / "images" / f"{key(3)}.lock").touch()
        clear(tmp_path)
        names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {key(1), f"{key(1)}.lock", f"{key(2)}.lock"}


def test_a_removal_that_was_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    for number, act in ((1, clear), (2, lambda root: make_room(root, None, 0))):
        left = make(tmp_path, number).rename(tmp_path / "images" / f".removed-{key(number)}-{key(7)}")
        (left / MARKER).unlink()
        act(tmp_path)
        assert list((tmp_path / "images").iterdir()) == []


FOREIGN = {
    "a file beside the kinds": "notes.txt",
    "a file among entries": "images/photo.jpg",
    "a folder whose name is a key": f"images/{key(1)}/photo.jpg",
    "a folder with another name": "images/holiday/photo.jpg",
    "a folder that looks half removed": ".removed-x/photo.jpg",
    "a folder of another kind": f"measured/{key(1)}/threads.json",
    "a lock that says something": f"images/{key(1)}.lock",
    "a marked folder with another name": f"images/holiday/{MARKER}",
}


@pytest.mark.parametrize("name", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_entry_is_never_touched(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    make(tmp_path, 9)
    assert make_room(tmp_path, BLOCK, BLOCK)
    clear(tmp_path)
    assert numbers(tmp_path) == []
    assert path.read_text() == "mine"


def test_a_link_to_a_folder_elsewhere_is_no_entry(tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "elsewhere", 1)
    (tmp_path / "cache" / "images").mkdir(parents=True)
    (tmp_path / "cache" / "images" / key(1)).symlink_to(elsewhere)
    clear(tmp_path / "cache")
    assert (elsewhere / "train.u8").exists()


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    in_use=st.sets(st.integers(0, 4)),
    limit=st.integers(0, 30),
    needed=st.integers(0, 12),
)
def test_room_is_made_exactly_where_what_is_in_use_leaves_it(
    sizes: list[int], in_use: set[int], limit: int, needed: int
) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        folders = [make(root, number, size, days_ago=number) for number, size in enumerate(sizes)]
        claims = [claimed(folder) for number, folder in enumerate(folders) if number in in_use]
        before = {int(entry.key, 16): entry for entry in entries(root)}
        fits = make_room(root, limit * BLOCK, needed * BLOCK)
        after = numbers(root)
        staying = sum(entry.reserved_bytes for number, entry in before.items() if number in in_use)
        assert fits == (staying + needed * BLOCK <= limit * BLOCK)
        assert in_use & set(before) <= set(after)
        if fits:
            left = sum(before[number].reserved_bytes for number in after)
            assert left + needed * BLOCK <= limit * BLOCK
            gone = [number for number in before if number not in after]
            free = [number for number in after if number not in in_use]
            assert not gone or not free or min(gone) > max(free), "those used longest ago went"
            if gone:
                assert left + before[min(gone)].disk_bytes + needed * BLOCK > limit * BLOCK, "and no more than needed"
        else:
            assert after == sorted(before)
        for claim in claims:
            claim.close()


@pytest.mark.parametrize(
    ("text", "age"), [("12h", timedelta(hours=12)), ("30d", timedelta(days=30)), (" 1.5 w", timedelta(days=10.5))]
)
def test_an_age_is_a_number_and_a_unit(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1e9d", "30 days", "999999999999d"])
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(InputError, match="such as 12h, 30d or 4w"):
        parse_age(text)


def test_an_age_from_before_the_calendar_finds_nothing_that_old(tmp_path: Path) -> None:
    make(tmp_path, 1)
    assert clear(tmp_path, older_than=timedelta(days=900_000)).removed == ()


def test_an_entry_is_removed_unless_it_is_in_use_and_once_is_enough(tmp_path: Path) -> None:
    folder = make(tmp_path, 1)
    with claimed(folder):
        assert remove(folder) == "a process uses it"
        assert folder.exists()
    assert remove(folder) is None
    assert not folder.exists()
    assert remove(folder) is None
