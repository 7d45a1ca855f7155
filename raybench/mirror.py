"""A run directory in an object store: a folder of this machine mirrors it, and the store is what counts.

In: a place as a user gives it, a path or a URI. Out: a folder that the rest of raybench reads and writes as any other.

What is written there goes to the store first, under the name it will have, and only then gets that name here; so the
folder never holds more than the store does. What others may have written is brought here before it is read. Only one
driver and its trials write to a run, each to files of their own, as the lease and the layout see to.
"""

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raybench.cache import cache_root
from raybench.errors import RunError, StorageError
from raybench.log_parts import StoredLogs, join_logs
from raybench.store_errors import reason_of

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

FOLDER: Final = "runs"
"""In the cache folder."""
SCHEMES: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")
"""That pyarrow.fs reads and writes."""
ACCEPTED: Final = (
    f"a folder, or a URI that begins with {', '.join(f'{scheme}://' for scheme in SCHEMES[:-1])} or hdfs://"
)
LAZY: Final = frozenset({"checkpoints", "features"})
"""Folders whose files, large and many, are brought here one by one, by who reads them."""
SETTLED_SECONDS: Final = 60
"""A file of that age that the store does not hold was taken out of it; a younger one may be on its way there."""
AT_ONCE: Final = 16
"""Files that are brought here at the same time."""
_URI: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/+(?P<rest>.*)", re.DOTALL)
_MIRRORS: Final[dict[Path, "Mirror"]] = {}
"""Of this process, by their folders."""
_LOCK: Final = threading.Lock()
_STEPS: Final = frozenset({"", ".", ".."})
"""No names of files: in a store they are, and would lead out of the folder that mirrors it."""


class Mirror:
    """A folder here, and what it mirrors there.

    Args:
        folder: here; need not be there yet.
        uri: as users know it, without the options of its store.
        options: of its store, such as `region=eu-west-1`; mostly none.

    """

    def __init__(self, folder: Path, uri: str, options: str = "") -> None:
        self.folder = folder
        self.uri = uri
        self.options = options
        self.logs = StoredLogs(self)

    @cached_property
    def _place(self) -> "tuple[FileSystem, str]":
        """The store, and the path of the run directory there. Raises RunError."""
        from pyarrow import fs  # noqa: PLC0415 - it takes a tenth of a second, and most runs are folders

        try:
            system, base = fs.FileSystem.from_uri(f"{self.uri}?{self.options}" if self.options else self.uri)
        except (OSError, ValueError, NotImplementedError) as error:
            raise RunError(f"{self.uri}: cannot be used as a run directory: {reason_of(error)}") from None
        return system, base.rstrip("/")

    @property
    def _system(self) -> "FileSystem":
        return self._place[0]

    @property
    def _base(self) -> str:
        return self._place[1]

    def there(self, path: Path) -> str:
        """Return the URI of a file or folder here."""
        return "/".join([self.uri, *path.relative_to(self.folder).parts])

    def put(self, content: Path, path: Path) -> None:
        """Store the content of one file as that of another, which the folder here is about to hold.

        Raises:
            StorageError: the store did not take it.

        """
        from pyarrow import fs  # noqa: PLC0415

        there = self._path(path)
        try:
            fs.copy_files(
                str(content), there, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._system
            )
            _set_time(content, self._system.get_file_info(there))
        except OSError as error:
            raise StorageError(f"{self.there(path)}: cannot be written: {reason_of(error)}") from error

    def remove(self, path: Path) -> None:
        """Take a file, or a folder with all that it holds, out of the store. Raises StorageError."""
        from pyarrow import fs  # noqa: PLC0415

        there = self._path(path)
        try:
            kind = self._system.get_file_info(there).type
            if kind == fs.FileType.File:
                self._system.delete_file(there)
            elif kind == fs.FileType.Directory:
                self._system.delete_dir(there)
        except OSError as error:
            raise StorageError(f"{self.there(path)}: cannot be removed: {reason_of(error)}") from error

    def remove_files(self, paths: Iterable[Path]) -> None:
        """Take files out of the store that are there, several at a time. Raises StorageError."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._remove_file, paths):
                pass

    def _remove_file(self, path: Path) -> None:
        try:
            self._system.delete_file(self._path(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"{self.there(path)}: cannot be removed: {reason_of(error)}") from error

    def holds(self, path: Path) -> bool:
        """Return whether the store has a file of that name. Raises StorageError."""
        from pyarrow import fs  # noqa: PLC0415

        with self._reading(path):
            return bool(self._system.get_file_info(self._path(path)).type == fs.FileType.File)

    def bring(self, path: Path) -> None:
        """Make a file here what the store holds under its name: the same, or none. Raises StorageError."""
        from pyarrow import fs  # noqa: PLC0415

        with self._reading(path):
            info = self._system.get_file_info(self._path(path))
            if info.type == fs.FileType.File:
                self._bring(path, info)
            else:
                path.unlink(missing_ok=True)

    def bring_all(self, folders: Collection[str] | None = None) -> None:
        """Make the folder here what the store holds, but for files of `LAZY` folders. Raises StorageError.

        Args:
            folders: those of its folders that count, and nothing outside of them; None: everything.

        """
        began = time.time()
        with self._reading(self.folder):
            found = self._listed(folders)
            self._bring_each(found)
            # Files may have moved into a larger one meanwhile: that is there by now, whatever was listed before.
            again = self._listed(folders)
            self._bring_each({path: info for path, info in again.items() if path not in found})
        for path in self._settled(began):
            counts = folders is None or path.parent.relative_to(self.folder).as_posix() in folders
            if counts and path not in found and path not in again and not self._is_lazy(path):
                path.unlink(missing_ok=True)
        if folders is None:
            join_logs(self.folder)

    def _listed(self, folders: Collection[str] | None) -> "dict[Path, FileInfo]":
        """Return the files there by what they are called here."""
        from pyarrow import fs  # noqa: PLC0415

        found = {}
        for place in [self._base] if folders is None else [f"{self._base}/{folder}" for folder in folders]:
            for info in self._system.get_file_info(fs.FileSelector(place, allow_not_found=True, recursive=True)):
                parts = info.path.removeprefix(f"{self._base}/").split("/")
                if info.type == fs.FileType.File and _STEPS.isdisjoint(parts):
                    found[self.folder.joinpath(*parts)] = info
        return found

    def _bring_each(self, found: "Mapping[Path, FileInfo]") -> None:
        wanted = [path for path in found if not self._is_lazy(path)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._bring_if_there, wanted, map(found.__getitem__, wanted)):
                pass

    def _bring_if_there(self, path: Path, info: "FileInfo") -> None:
        with contextlib.suppress(FileNotFoundError):  # merged since it was listed
            self._bring(path, info)

    def names(self, folder: str) -> Iterable[tuple[str, datetime]]:
        """Return the files of a folder there, with when each was last written, by the store's clock."""
        from pyarrow import fs  # noqa: PLC0415

        with self._reading(self.folder / folder):
            selector = fs.FileSelector(f"{self._base}/{folder}".rstrip("/"), allow_not_found=True)
            return [
                (info.base_name, info.mtime)
                for info in self._system.get_file_info(selector)
                if info.type == fs.FileType.File
            ]

    def _path(self, path: Path) -> str:
        return "/".join([self._base, *path.relative_to(self.folder).parts])

    def _is_lazy(self, path: Path) -> bool:
        parts = path.relative_to(self.folder).parts
        return not LAZY.isdisjoint(parts) or parts[-1].startswith(".")

    def _settled(self, now: float) -> list[Path]:
        """Return the files here that nobody has written to of late."""
        files = []
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_ctime < now - SETTLED_SECONDS:
                    files.append(path)
        return files

    def _bring(self, path: Path, info: "FileInfo") -> None:
        with contextlib.suppress(OSError):
            here = path.stat()
            if here.st_size == info.size and here.st_mtime_ns == info.mtime_ns:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with self._system.open_input_stream(info.path) as source, temporary.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            _set_time(temporary, info)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.there(path)}: cannot be read: {reason_of(error)}") from error


def is_uri(place: str | Path) -> bool:
    """Return whether a place is no path of this machine; a URI keeps being one as a `Path`, which drops a slash."""
    return _URI.fullmatch(str(place)) is not None


def run_folder(place: str | Path) -> Path:
    """Return the folder of this machine that is the run directory, or mirrors it; nothing is read or made.

    Raises:
        RunError: a URI of a kind that nobody here can read, or that is not well formed.

    """
    found = _URI.fullmatch(str(place))
    if found is None:
        return Path(place)
    scheme, rest = found["scheme"], found["rest"].rstrip("/")
    if scheme == "file":
        return Path(f"/{rest}")
    path, _, options = rest.partition("?")
    uri = f"{scheme}://{path.rstrip('/')}"
    if scheme not in SCHEMES or not _STEPS.isdisjoint(path.rstrip("/").split("/")):
        raise RunError(f"{uri}: is no run directory; give {ACCEPTED}")
    if "@" in path.partition("/")[0]:
        raise RunError(
            f"{scheme}://...@{path.rpartition('@')[2]}: holds a key, which logs would show; leave it out, and let the "
            "environment or the machine's role give it, as for other tools of that store"
        )
    folder = cache_root().resolve() / FOLDER / scheme / path.rstrip("/")
    with _LOCK:
        if folder not in _MIRRORS:
            _MIRRORS[folder] = Mirror(folder, uri, options)
    return folder


def mirror_of(path: Path) -> Mirror | None:
    """Return the mirror that a path lies in; None: it is a path like any other."""
    if not _MIRRORS:
        return None
    return next((mirror for folder, mirror in _MIRRORS.items() if path.is_relative_to(folder)), None)


def place_of(folder: Path) -> str:
    """Return a run directory as its user gave it: the URI of a folder that mirrors one."""
    mirror = mirror_of(folder)
    return str(folder) if mirror is None else mirror.there(folder)


def address_of(folder: Path) -> str:
    """Return what `run_folder` makes the same run directory of on another machine."""
    mirror = mirror_of(folder)
    return place_of(folder) + (f"?{mirror.options}" if mirror is not None and mirror.options else "")


def in_users_words(text: str) -> str:
    """Return a message with the URIs of run directories in the place of the folders that mirror them."""
    for folder, mirror in _MIRRORS.items():
        text = text.replace(str(folder), mirror.uri)
    return text


def bring(path: Path) -> Path:
    """Return a path whose file is what the run directory holds, wherever that is. Raises StorageError."""
    mirror = mirror_of(path)
    if mirror is not None:
        mirror.bring(path)
    return path


def bring_all(folder: Path, folders: Collection[str] | None = None) -> Path:
    """Return a run directory whose tables, logs and settings are there to be read, or those of some of its folders.

    Raises StorageError.
    """
    mirror = mirror_of(folder)
    if mirror is not None:
        below = [(folder / name).relative_to(mirror.folder).as_posix() for name in folders or ()]
        mirror.bring_all(None if folders is None else below)
    return folder


def opened(place: str | Path) -> Path:
    """Return the folder of a run directory, with its tables, logs and settings there to be read.

    Raises:
        RunError: a URI of a kind that nobody here can read, or that is not well formed.
        StorageError: the store cannot be read.

    """
    return bring_all(run_folder(place))


def publish_log(path: Path) -> None:
    """Store what was just appended to a log of a run directory. Raises StorageError."""
    mirror = mirror_of(path)
    if mirror is not None:
        mirror.logs.put(path)


def publish(path: Path) -> None:
    """Store a file of a run directory as it was just written, where `replacing` did not. Raises StorageError."""
    mirror = mirror_of(path)
    if mirror is not None:
        mirror.put(path, path)


def publish_all(folder: Path) -> None:
    """Store every file of a folder of a run directory that others have written there. Raises StorageError."""
    if mirror_of(folder) is not None:
        for path in filter(Path.is_file, folder.rglob("*")):
            publish(path)


def is_there(path: Path) -> bool:
    """Return whether a run directory holds a file, wherever that is. Raises StorageError."""
    mirror = mirror_of(path)
    return path.exists() if mirror is None else mirror.holds(path)


def remove(path: Path) -> None:
    """Remove a file of a run directory, or a folder of it, if it is there. Raises StorageError, OSError."""
    mirror = mirror_of(path)
    if mirror is not None:
        mirror.remove(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def names_in(folder: Path) -> set[str]:
    """Return the files of a folder of a run directory, wherever that is. Raises StorageError, OSError."""
    mirror = mirror_of(folder)
    if mirror is not None:
        return {name for name, _ in mirror.names(folder.relative_to(mirror.folder).as_posix())}
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def remove_files(paths: Collection[Path]) -> None:
    """Remove files of one run directory, those that are there. Raises StorageError, OSError."""
    mirror = mirror_of(next(iter(paths))) if paths else None
    if mirror is not None:
        mirror.remove_files(paths)
    for path in paths:
        path.unlink(missing_ok=True)


def _set_time(path: Path, info: "FileInfo") -> None:
    """Give a file here the time of the one there, by which both are known to be the same."""
    os.utime(path, ns=(time.time_ns(), info.mtime_ns or int(datetime.now(UTC).timestamp()) * 10**9))
