"""Hosts of our own on this machine, for the real `ray up`: an operator, a head and workers, each with its own sshd.

In: an empty folder. Out: `Hosts`, on which commands are run, processes killed and links cut.

Each host has a network, mount, PID, UTS and IPC namespace of its own, and so its own /tmp, /root, /run, /etc and
/dev/shm; /shared is one folder for all. Other files of this machine are seen by all of them, CPUs and memory as well.
A switch without a way out joins them. No namespace has a name: once their processes have ended, nothing is left, and
several sets of hosts never meet. They end with this process, whatever becomes of it.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import psutil

from raybench.errors import RaybenchError

ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path(__file__).with_name("host.sh")
COMMANDS = ("ip", "nsenter", "unshare", "pivot_root", "ssh", "ssh-keygen", "sshd", "rsync", "curl")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETWORK = "10.0.0."
PREFIX_LENGTH = 24
GATEWAY = f"{NETWORK}1"
OPERATOR = "op"
HEAD = "head"
ADDRESSES: Mapping[str, str] = MappingProxyType(
    {OPERATOR: f"{NETWORK}2", HEAD: f"{NETWORK}11", "w1": f"{NETWORK}12", "w2": f"{NETWORK}13"}
)
INSTANCE_TYPES: Mapping[str, str] = MappingProxyType({"w1": "g5.xlarge", "w2": "g6.xlarge"})
"""What the workers learn of themselves as EC2 machines do."""
KEY = "/root/.ssh/key"
"""On the operator's host, with which root logs in to every other."""
LIFE_SECONDS = 1800
"""After which a host ends, whatever happens."""
READY_SECONDS = 60
END_SECONDS = 20
COMMAND_SECONDS = 60
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
LOG_LINES = 40
"""Of each log, shown where a test fails."""
RAY_LOGS = ("monitor.log", "monitor.out", "monitor.err", "gcs_server.out", "raylet.out", "raylet.err")


class HostsError(RaybenchError):
    """Something that hosts were asked for did not happen."""


def why_not() -> str | None:
    """Return why this machine cannot have hosts of its own; None where it can."""
    if os.geteuid() != 0:
        return "hosts of one's own need root"
    missing = [command for command in COMMANDS if shutil.which(command, path=SYSTEM_PATH) is None]
    if missing:
        return f"hosts of one's own need {', '.join(missing)}: see tests/cluster/install_hosts.sh"
    link = "mount -t tmpfs tmpfs /mnt && ip link add br0 type bridge && ip link add p0 type veth peer name p1"
    tried = _machine(["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", "-c", link])
    if tried.returncode != 0:
        return f"this machine does not allow namespaces: {_last_line(tried.stderr)}"
    return None


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float, every: float = 0.2) -> float:
    """Wait for a condition and return how many seconds that took. Raises HostsError, which names it, after so long."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise HostsError(f"after {seconds:g} s there is still not: {what}")
        time.sleep(every)
    return time.monotonic() - begin


class Hosts:
    """An operator, a head and two workers, as a context manager.

    Args:
        folder: where keys, logs and what the hosts share are kept; removed at the end.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        """What every host sees as /shared."""
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._switch: subprocess.Popen[str] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._end)
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.logs())
        self._stack.close()

    def run(
        self, host: str, command: Sequence[str], *, seconds: float = COMMAND_SECONDS, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end on a host, as root in /root.

        Raises:
            HostsError: it took longer than so many seconds, or ended with another status than 0 and `check` is set.

        """
        process = self.start(host, command)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as expired:
            process.kill()
            out, err = process.communicate()
            raise HostsError(f"{host}: {command} took longer than {seconds:g} s:\n{out}{err}") from expired
        if check and process.returncode != 0:
            raise HostsError(f"{host}: {command} ended with {process.returncode}:\n{out}{err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def start(self, host: str, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command on a host, as root in /root, and return it: `nsenter`, which ends as the command does."""
        return subprocess.Popen(
            [*self._enter(host), "bash", "-c", 'cd /root; exec "$@"', "bash", *command],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self, host: str) -> list[psutil.Process]:
        """Return what runs on a host, its first process left out; pids are this machine's."""
        first = self._first(host)
        there = _namespace(first.pid)
        return [each for each in psutil.process_iter() if each != first and _namespace(each.pid) == there]

    def pids(self, host: str, name: str) -> list[int]:
        """Return the pids, of this machine, of a host's processes with that name."""
        return [each.pid for each in self.processes(host) if _name(each) == name]

    def kill(self, host: str, pid: int) -> None:
        """Kill a process of a host at once."""
        (process,) = [each for each in self.processes(host) if each.pid == pid]
        process.kill()

    def cut(self, host: str) -> None:
        """Pull a host's network cable."""
        self._on_switch(["ip", "link", "set", f"p-{host}", "down"])

    def mend(self, host: str) -> None:
        """Put a host's network cable back."""
        self._on_switch(["ip", "link", "set", f"p-{host}", "up"])

    def logs(self) -> str:
        """Return the last lines that each host, and Ray on it, wrote."""
        texts = [f"==> {host} <==\n{self._tail(self._log(host))}" for host in self._processes]
        for host in self._processes:
            sessions = sorted(Path(f"/proc/{self._first(host).pid}/root/tmp/ray").glob("session_2*"))
            for log in [sessions[-1] / "logs" / name for name in RAY_LOGS if sessions]:
                text = self._tail(log)
                texts += [f"==> {host}: {log.name} <==\n{text}"] if text else []
        return "\n".join(texts)

    def _begin(self) -> None:
        self.shared.mkdir(parents=True)
        (self.folder / "keys").mkdir(mode=0o700)
        for name in ("user", "host"):
            _machine(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "keys" / name)], check=True
            )
        names = "".join(f"{address} {host}\n" for host, address in ADDRESSES.items())
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        bridge = f"ip link add br0 type bridge && ip link set br0 up && echo made && read -r -t {LIFE_SECONDS}"
        self._switch = self._popen(["unshare", "--net", "bash", "-c", bridge], self._log("switch"))
        wait_until(lambda: self._told("switch", "made"), "a switch between the hosts", seconds=READY_SECONDS)
        for host in ADDRESSES:
            self._start_host(host)
        for host in ADDRESSES:
            wait_until(partial(self._is_ready, host), f"{host}, ready", seconds=READY_SECONDS)

    def _start_host(self, host: str) -> None:
        seen = dict.fromkeys(map(str, (ROOT, sys.prefix, sys.base_prefix, Path(sys.executable).resolve().parents[1])))
        of_host = [host, ADDRESSES[host], str(PREFIX_LENGTH), GATEWAY, str(self.folder), str(LIFE_SECONDS)]
        command = ["bash", str(SCRIPT), *of_host, INSTANCE_TYPES.get(host, ""), sys.executable, *seen]
        apart = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--propagation", "private"]
        process = self._popen([*apart, *command], self._log(host))
        self._processes[host] = process
        wait_until(lambda: bool(psutil.Process(process.pid).children()), f"{host}, started", seconds=READY_SECONDS)
        pid = str(self._first(host).pid)
        self._on_switch(["ip", "link", "add", f"p-{host}", "type", "veth", "peer", "name", "eth0", "netns", pid])
        self._on_switch(["ip", "link", "set", f"p-{host}", "master", "br0", "up"])
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    def _is_ready(self, host: str) -> bool:
        if self._processes[host].poll() is not None:
            raise HostsError(f"{host} ended as it began:\n{self._tail(self._log(host))}")
        return Path(f"/proc/{self._first(host).pid}/root/run/ready").exists()

    def _end(self) -> None:
        """End every host by its first process, which takes all others of it along."""
        ending = [process for process in (*self._processes.values(), self._switch) if process is not None]
        there = {_namespace(child.pid) for each in ending for child in _children(each.pid)} - {_namespace(os.getpid())}
        for each in ending:
            for child in _children(each.pid):
                child.kill()
            each.kill()
            each.wait(timeout=END_SECONDS)
            assert each.stdin is not None
            each.stdin.close()
        inside = [each for each in psutil.process_iter() if _namespace(each.pid) in there - {None}]
        _, alive = psutil.wait_procs(inside, timeout=END_SECONDS)
        shutil.rmtree(self.folder)
        if alive:
            raise HostsError(f"processes of hosts did not end: {alive}")

    def _popen(self, command: Sequence[str], log: Path) -> subprocess.Popen[str]:
        """Start a command that ends when its standard input does: with this process at the latest."""
        with log.open("w") as out:
            return subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for the tests, which then end the hosts
            )

    def _enter(self, host: str) -> list[str]:
        return ["nsenter", "--target", str(self._first(host).pid), *NAMESPACES, "--root"]

    def _first(self, host: str) -> psutil.Process:
        """Return the host's process 1."""
        (first,) = psutil.Process(self._processes[host].pid).children()
        return first

    def _on_switch(self, command: Sequence[str]) -> None:
        assert self._switch is not None
        _machine(["nsenter", "--target", str(self._switch.pid), "--net", *command], check=True)

    def _environment(self) -> dict[str, str]:
        """Return the variables of a host: none of those that this process happens to have."""
        path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
        return {"PATH": path, "HOME": "/root", "USER": "root", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "xterm"}

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _told(self, name: str, text: str) -> bool:
        return text in self._log(name).read_text()

    def _tail(self, path: Path) -> str:
        try:
            return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:])
        except OSError:
            return ""


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _namespace(pid: int) -> str | None:
    """Return which PID namespace a process is in; None where it has ended."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _machine(command: Sequence[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{SYSTEM_PATH}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode != 0:
        raise HostsError(f"{' '.join(command)}: {_last_line(done.stderr)}")
    return done


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
