"""Ray for the length of one run: started on this machine, or joined.

In: what the command line says about CPUs, GPUs and an address. Out: a running Ray, and afterwards the machine as
it was: processes that were started here are gone, a cluster or a notebook's own Ray goes on.

A local Ray listens on loopback only: whoever reaches Ray's ports can run code as this user.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # as Ray itself does

from raybench.errors import InputError
from raybench.scheduling.joining import MODE_VARIABLE, last_line, reach, token_mode
from raybench.scheduling.resources import INSTANCE_LABEL, check_declared

LOCAL_INSTANCE = "local"
"""Machine type of the machine where Ray is started for one run."""
OBJECT_STORE_BYTES = 100 * 2**20
"""Results travel as rows on disk and images through the page cache: Ray's shared memory stays nearly empty."""
SILENT = logging.CRITICAL + 1
LEFT_BEHIND = {"PYTHONBREAKPOINT", MODE_VARIABLE}
"""Environment variables that `ray.init` and a session set."""
MEMORY_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # trials compute in a thread, whose own arena would hold no large tensors
    "MALLOC_MMAP_THRESHOLD_": str(2**32),  # tensors come from memory that was freed before, not as new pages
    "MALLOC_TRIM_THRESHOLD_": str(2**40),  # which stays in the process until its trial has ended
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # in pages of 2 MB where the kernel has them
}
"""How glibc gives memory to the processes that Ray starts: each step of a model takes and frees gigabytes. Read by it
when a process starts; other C libraries do not know these names. See docs/decisions/measured-choices.md."""
LOCAL_ENVIRONMENT = {
    **MEMORY_ENVIRONMENT,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only, for the processes that Ray starts
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # Ray's memory monitor ends the whole run in place of one trial
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keeps Ray from warning about trials without a GPU
}


_SHARED: list[tuple[int | None, int | None, str | None]] = []
"""Options of the Ray that `shared_ray` keeps."""


def check_session(*, num_cpus: int | None, num_gpus: int | None, address: str | None) -> None:
    """Check what can be checked of a session before it begins, without starting or joining anything.

    Raises:
        InputError: the options contradict each other, or nothing listens at the address.

    """
    if (num_cpus, num_gpus, address) in _SHARED:
        return
    check_declared(num_cpus=num_cpus, num_gpus=num_gpus)
    declared = num_cpus is not None or num_gpus is not None
    if ray.is_initialized() and (declared or address is not None):
        raise InputError(
            "--num-cpus, --num-gpus and --address cannot be applied: Ray runs in this Python process already; "
            "leave them out, or call ray.shutdown() first"
        )
    if address is None:
        return
    if declared:
        raise InputError(f"--address: {address!r} has its own CPUs and GPUs; leave --num-cpus and --num-gpus out")
    if address != "auto":
        reach(address)


@contextmanager
def ray_session(
    *, num_cpus: int | None = None, num_gpus: int | None = None, address: str | None = None
) -> Iterator[bool]:
    """Keep a Ray for the length of a `with` block, and yield whether it ends with it.

    A Ray that runs in this Python process already, as in a notebook, is used and left alone. Otherwise the one at
    `address` (`HOST:PORT`, or `auto` for this machine's) is joined and left, or one is started here and ended.
    `num_cpus` and `num_gpus` say what this machine counts as having; None: what it has.

    Raises:
        InputError: the address does not answer, or the options contradict each other.

    """
    check_session(num_cpus=num_cpus, num_gpus=num_gpus, address=address)
    if ray.is_initialized():
        yield (num_cpus, num_gpus, address) in _SHARED
        return
    variables = set(os.environ)
    try:
        if address is None:
            _start_here(num_cpus, num_gpus)
        else:
            _join(address)
        yield True
    finally:
        ray.shutdown()
        for name in LEFT_BEHIND - variables:
            os.environ.pop(name, None)
        _read_environment()


@contextmanager
def shared_ray(
    *, num_cpus: int | None = None, num_gpus: int | None = None, address: str | None = None
) -> Iterator[None]:
    """Keep one Ray for all sessions with these options in a `with` block; it ends with the block. See `ray_session`.

    Starting it anew for each takes seconds, and a process that did so was once seen to crash as it ended.
    """
    options = (num_cpus, num_gpus, address)
    with quiet_ray(), ray_session(num_cpus=num_cpus, num_gpus=num_gpus, address=address) as ends_with_block:
        if ends_with_block:
            _SHARED.append(options)
        try:
            yield
        finally:
            if ends_with_block:
                _SHARED.remove(options)


def _start_here(num_cpus: int | None, num_gpus: int | None) -> None:
    clusters_wanted = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False  # the variable's twin in this process, read when ray was imported
    try:
        with environment(LOCAL_ENVIRONMENT), _groups_of_their_own():
            _init(
                address="local",
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                labels={INSTANCE_LABEL: LOCAL_INSTANCE},
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
            )
    except Exception as error:
        raise InputError(f"Ray cannot be started on this machine: {last_line(str(error))}") from error
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters_wanted


@contextmanager
def _groups_of_their_own() -> Iterator[None]:
    """Let Ray's processes hear no signal that is sent to this process and its group, as `timeout` and launchers do.

    They would end before trials could finish their epochs. Whatever ends this process ends them: Ray ties them to it.
    """
    popen = services.ConsolePopen
    services.ConsolePopen = partial(popen, process_group=0)  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        services.ConsolePopen = popen  # type: ignore[misc]


def _join(address: str) -> None:
    os.environ[MODE_VARIABLE] = token_mode(address)
    _read_environment()
    try:
        _init(address=address)
    except Exception as error:
        raise InputError(f"--address: {address!r} cannot be joined: {last_line(str(error))}") from error


def _read_environment() -> None:
    """Let Ray forget what it was told by environment variables before: one session asks for a token, another not."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _init(**options: Any) -> None:  # noqa: ANN401 - ray.init's own
    # Ray sets the level of its loggers, whatever it was before. What goes wrong is told in raybench's own words.
    ray.init(log_to_driver=False, logging_level=SILENT, **options)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a `with` block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def quiet_ray() -> Iterator[None]:
    """Keep Ray's own words off the screen, its log and what it prints of lost workers: raybench tells it in its own."""
    logger = logging.getLogger("ray")
    level = logger.level
    printing = ray._private.worker.print_to_stdstream  # noqa: SLF001 - no option of Ray's keeps it from standard output
    logger.setLevel(SILENT)
    ray._private.worker.print_to_stdstream = _say_nothing  # noqa: SLF001
    try:
        yield
    finally:
        logger.setLevel(level)
        ray._private.worker.print_to_stdstream = printing  # noqa: SLF001


def _say_nothing(*_: object, **__: object) -> None:
    """Stand in for what prints."""


def head_address() -> str:
    """Return where the head of the Ray that this process has joined listens, `HOST:PORT`."""
    address: str = ray.get_runtime_context().gcs_address
    return address


def lost_process() -> str | None:
    """Return the name of a process of the Ray that was started here, and that has ended; None where all are there.

    Ray itself would wait for it for minutes, or for ever.
    """
    started_here = ray._private.worker._global_node  # noqa: SLF001 - Ray has no public way
    if started_here is None:
        return None
    dead = [str(name) for name, _ in started_here.dead_processes()]
    return dead[0] if dead else None


def import_path() -> tuple[str, ...]:
    """Return where this process imports from, for workers to do the same; the working directory by its full name."""
    return tuple(dict.fromkeys(os.path.abspath(entry) for entry in sys.path))  # noqa: PTH100 - "" is the working directory
