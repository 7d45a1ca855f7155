"""Whether every machine of a cluster can take part in a run, asked before its first trial.

In: the machines that Ray has, the run directory, and what trials read. Out: nothing, or one `InputError` that names the
machine, what is wrong there, and what to do.

Each machine is asked by a function that travels whole, so that it answers even where no raybench is installed.
"""

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench.errors import InputError, RaybenchError
from raybench.events import Notice
from raybench.mirror import address_of, is_uri, mirror_of, place_of, run_folder
from raybench.records import Trial
from raybench.scheduling.resources import Node

ANSWER_SECONDS: Final = 60
"""How long a machine may take to start a process and answer."""
LISTED: Final = 3
"""Files that an error names, at most."""
MARKER: Final = ".raybench-"
"""What the name of a file begins with that is there while machines are asked whether they see it."""
WEIGHTS_SUFFIXES: Final = frozenset({".pt", ".pth", ".safetensors"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a machine says about itself."""

    code: str | None
    """Digest of the raybench that it imports; None where it finds none."""
    torch: str | None
    sees_run: bool
    """Whether it can read and write what the driver just made beside the run directory, or reads the object store."""
    missing: tuple[str, ...]
    """Of the files and folders that trials read."""


def check_members(
    machines: Sequence[Node],
    *,
    trials: Iterable[Trial],
    run_dir: Path,
    import_path: Sequence[str],
    tell: Callable[[Notice], None],
    limit_seconds: float = ANSWER_SECONDS,
) -> None:
    """Check that trials can run on every machine that has cores for them; nothing to do where this is the only one.

    Raises:
        InputError: a machine does not answer, has another raybench or none, does not see the run directory, or lacks
            files that trials read.

    """
    here = ray.get_runtime_context().get_node_id()
    others = [machine for machine in machines if machine.node_id != here and machine.cpus]
    if not others:
        return
    paths = sorted({str(path) for trial in trials for path in read_by(trial)})
    with _marker(run_dir) as marker:
        answers = _ask(others, marker, paths, import_path, limit_seconds)
    own_code, own_torch = code_digest(), version("torch")
    for machine in others:
        answer = answers.get(machine.node_id)
        if answer is None:  # it has left meanwhile; Ray knows, and starts nothing there
            continue
        wrong = _what_is_wrong(answer, code=own_code, run_dir=run_dir)
        if wrong is not None:
            raise InputError(f"{machine.host}: {wrong}")
    unlike = {
        answer.torch: machine.host
        for machine in others
        if (answer := answers.get(machine.node_id)) is not None and answer.torch != own_torch
    }
    for torch, host in unlike.items():
        text = f"{host} has torch {torch}, {platform.node()} {own_torch}: the same trial may give other numbers there"
        tell(Notice(text=text, lasting=True))


def read_by(trial: Trial) -> Iterator[Path]:
    """Yield what a trial reads that nobody brings to a machine: folders of images, lists of files, files of weights."""
    if trial.dataset.root is not None:
        yield Path(trial.dataset.root).expanduser()
    kind, _, place = trial.dataset.source.partition(":")
    if kind == "imagefolder":
        yield Path(place).expanduser()
    elif kind == "filelist":
        yield Path(place).expanduser().parent
    if Path(trial.weights).suffix in WEIGHTS_SUFFIXES:
        yield Path(trial.weights).expanduser()


def sees(marker: str) -> bool:
    """Return whether this machine has what `check_members` made on another, or reads the object store that it named."""
    if not is_uri(marker):
        return os.access(marker, os.R_OK | os.W_OK)
    mirror = mirror_of(run_folder(marker))
    try:
        return mirror is not None and mirror.names("") is not None
    except RaybenchError:
        return False


def code_digest() -> str | None:
    """Return a digest of raybench's own modules as this process would import them; None where there are none."""
    found = find_spec("raybench")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _what_is_wrong(answer: Answer, *, code: str | None, run_dir: Path) -> str | None:
    absent = [name for name, found in (("raybench", answer.code), ("torch", answer.torch)) if found is None]
    if absent:
        return f"has no {' and no '.join(absent)}; install on every machine what this one has (see cluster.yaml)"
    if answer.code != code:
        return (
            f"another raybench is installed there ({answer.code}; here it is {code}); bring the same checkout to "
            "every machine, as 'ray up' does"
        )
    if not answer.sees_run and mirror_of(run_dir) is not None:
        return f"{place_of(run_dir)} cannot be read from there; give it the role or the keys that this machine has"
    if not answer.sees_run:
        return (
            f"{run_dir} is not on storage that it shares with {platform.node()}, and all machines write there; give "
            "--run-dir a folder that every machine mounts at the same path"
        )
    if answer.missing:
        more = f" and {len(answer.missing) - LISTED} more" if len(answer.missing) > LISTED else ""
        return f"{', '.join(answer.missing[:LISTED])}{more} cannot be read there; copy it to every machine, or share it"
    return None


@contextmanager
def _marker(run_dir: Path) -> Iterator[str]:
    """Yield what others are asked for: the URI of an object store, or a file that is there meanwhile.

    It lies in the run directory, or where that will be.
    """
    if mirror_of(run_dir) is not None:
        yield address_of(run_dir)
        return
    folder = next(path for path in (run_dir, *run_dir.absolute().parents) if path.is_dir())
    marker = folder / f"{MARKER}{uuid4().hex}"
    try:
        marker.touch()
    except OSError as error:
        raise InputError(
            f"{run_dir}: cannot be written to: {error.strerror or error}; give another --run-dir"
        ) from error
    try:
        yield str(marker)
    finally:
        with contextlib.suppress(OSError):
            marker.unlink()


def _ask(
    machines: Sequence[Node], marker: str, paths: Sequence[str], import_path: Sequence[str], limit_seconds: float
) -> dict[str, Answer]:
    """Return what each machine answers, by node; those that have left meanwhile are absent."""
    look = ray.remote(_looking())
    asked = {}
    for machine in machines:
        there = NodeAffinitySchedulingStrategy(node_id=machine.node_id, soft=False)
        options = look.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[machine.node_id] = options.remote(marker, list(paths), list(import_path))
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=limit_seconds)
    answers: dict[str, Answer] = {}
    for machine in machines:
        try:
            said: Any = ray.get(asked[machine.node_id], timeout=0.1)
        except GetTimeoutError:
            raise InputError(
                f"{machine.host}: did not answer within {limit_seconds:g} s; look at it with 'ray status', or take "
                "it out of the cluster"
            ) from None
        except RayError as error:
            if machine.node_id not in _alive():
                continue
            text = str(error).strip().splitlines()
            raise InputError(f"{machine.host}: runs no task of Ray's: {text[-1] if text else error}") from None
        answers[machine.node_id] = Answer(**said)
    return answers


def _alive() -> set[str]:
    nodes: list[Mapping[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"] for node in nodes if node["Alive"]}


def _looking() -> Callable[[str, list[str], list[str]], dict[str, object]]:
    """Return what a machine does that is asked. A function inside a function is sent whole, not by its name."""

    def look(marker: str, paths: list[str], import_path: list[str]) -> dict[str, object]:
        import os  # noqa: PLC0415 - what a function that travels uses, it brings
        import sys  # noqa: PLC0415
        from importlib import import_module, metadata  # noqa: PLC0415

        sys.path.extend(entry for entry in import_path if entry not in sys.path)
        sees_run = False
        try:
            own = import_module("raybench.scheduling.membership")
            code, sees_run = own.code_digest(), own.sees(marker)
        except (ImportError, AttributeError):  # an older one is not made for this
            try:
                code = f"version {metadata.version('raybench')}"
            except metadata.PackageNotFoundError:
                code = None
        try:
            torch = metadata.version("torch")
        except metadata.PackageNotFoundError:
            torch = None
        return {
            "code": code,
            "torch": torch,
            "sees_run": sees_run,
            "missing": tuple(path for path in paths if not os.access(path, os.R_OK)),
        }

    return look
