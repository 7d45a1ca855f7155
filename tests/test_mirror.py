"""Run directories in an object store, on a store that speaks Amazon's protocol: what is there counts."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from raybench import mirror
from raybench.atomic import replacing
from raybench.errors import RunError, StorageError
from raybench.mirror import (
    Mirror,
    bring,
    bring_all,
    in_users_words,
    is_uri,
    mirror_of,
    place_of,
    publish,
    remove,
    run_folder,
)
from tests.stores import object_store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch, object_store(monkeypatch) as uri:
        yield uri


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def run(bucket: str, request: pytest.FixtureRequest) -> Path:
    return run_folder(f"{bucket}/{request.node.name}")


def elsewhere(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the same run directory as another machine has it, which shares the store alone."""
    uri = place_of(run_dir)
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "another machine"))
    return run_folder(uri)


def write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def stored(run_dir: Path) -> set[str]:
    found = mirror_of(run_dir)
    assert found is not None
    system, base = fs.FileSystem.from_uri(found.uri)
    infos = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    return {info.path.removeprefix(f"{base}/") for info in infos if info.type == fs.FileType.File}


def test_what_is_written_is_in_the_store_under_the_same_name(run: Path) -> None:
    write(run / "results" / "a.parquet", "a")
    write(run / "manifest.json", "{}")
    assert stored(run) == {"results/a.parquet", "manifest.json"}
    assert (run / "manifest.json").read_text() == "{}"


def test_another_machine_reads_what_was_written_and_what_was_replaced(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run / "results" / "a.parquet", "a")
    write(run / "checkpoints" / "a.pt", "state")
    there = elsewhere(run, tmp_path, monkeypatch)
    assert there != run
    bring_all(there)
    assert (there / "results" / "a.parquet").read_text() == "a"
    assert not (there / "checkpoints" / "a.pt").exists(), "large files come when they are read"
    assert bring(there / "checkpoints" / "a.pt").read_text() == "state"

    write(run / "checkpoints" / "a.pt", "later state")
    assert bring(there / "checkpoints" / "a.pt").read_text() == "later state"
    remove(run / "checkpoints" / "a.pt")
    assert not bring(there / "checkpoints" / "a.pt").exists()


def test_what_is_unchanged_is_not_read_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run / "results" / "a.parquet", "a")
    there = elsewhere(run, tmp_path, monkeypatch)
    bring_all(there)
    first = (there / "results" / "a.parquet").stat().st_ino
    bring_all(there)
    assert (there / "results" / "a.parquet").stat().st_ino == first


def test_a_file_that_the_store_lost_is_gone_here_unless_it_may_be_on_its_way(run: Path) -> None:
    write(run / "results" / "kept.parquet", "a")
    for name in ("old", "young"):
        (run / "results" / f"{name}.parquet").write_text("b")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(mirror, "SETTLED_SECONDS", -10)
        bring_all(run)
    assert [path.name for path in (run / "results").iterdir()] == ["kept.parquet"]
    (run / "results" / "young.parquet").write_text("b")
    bring_all(run)
    assert (run / "results" / "young.parquet").exists()


def test_a_log_that_grew_is_stored_when_it_is_published(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.mkdir(parents=True)
    for line in "ab":
        with (run / "decisions.jsonl").open("a") as file:
            file.write(f"{line}\n")
        publish(run / "decisions.jsonl")
    there = elsewhere(run, tmp_path, monkeypatch)
    assert (bring_all(there) / "decisions.jsonl").read_text() == "a\nb\n"


def test_a_store_that_takes_nothing_is_one_message_and_the_file_stays_as_it_was(bucket: str) -> None:
    folder = run_folder(f"{bucket}-that-is-not-there/run")
    with pytest.raises(StorageError, match=r"^s3://figures-that-is-not-there/run/manifest.json: cannot be written: "):
        write(folder / "manifest.json", "{}")
    assert not (folder / "manifest.json").exists()
    assert list(folder.iterdir()) == [], "no half of it either"


def test_messages_name_the_uri(run: Path) -> None:
    assert in_users_words(f"{run}/results/a.parquet: is damaged") == f"{place_of(run)}/results/a.parquet: is damaged"
    assert place_of(Path("runs/own")) == "runs/own"


def test_paths_stay_paths_and_a_uri_survives_being_a_path() -> None:
    assert run_folder("runs/own") == Path("runs/own")
    assert run_folder("file:///runs/own") == Path("/runs/own")
    assert is_uri(Path("s3://bucket/runs")), "as options of the command line are"
    assert run_folder(Path("s3://bucket/runs/a/")) == run_folder("s3://bucket/runs/a")
    assert not is_uri("runs/s3")
    assert not is_uri("C:/runs"), "a drive of Windows"


class HostileStore:
    """A store with names that a server may hold; the one of the other tests mends them."""

    def get_file_info(self, _: object) -> list[fs.FileInfo]:
        names = ("results/../../escaped", "manifest.json")
        return [fs.FileInfo(f"b/run/{name}", fs.FileType.File, size=2, mtime_ns=10**18) for name in names]

    def open_input_stream(self, _: str) -> io.BytesIO:
        return io.BytesIO(b"{}")


def test_a_name_in_the_store_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    hostile = Mirror(tmp_path / "runs" / "run", "s3://b/run")
    vars(hostile)["_place"] = (HostileStore(), "b/run")
    hostile.bring_all()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["manifest.json"]


@pytest.mark.parametrize("uri", ["ftp://host/runs", "s3://", "http://host/runs", "s3://bucket/../../runs"])
def test_a_uri_that_is_no_object_store_is_refused(uri: str) -> None:
    with pytest.raises(RunError, match="is no run directory; give a folder, or a URI that begins with s3://"):
        run_folder(uri)


def test_a_key_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(RunError) as error:
        run_folder("s3://name:secret@bucket/runs")
    assert "holds a key" in str(error.value)
    assert "secret" not in str(error.value)
