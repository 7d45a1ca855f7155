"""Hosts of our own: what is theirs, what they share, and that nothing is left of them."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.hosts import (
    ADDRESSES,
    HEAD,
    INSTANCE_TYPES,
    KEY,
    OPERATOR,
    ROOT,
    Hosts,
    HostsError,
    wait_until,
    why_not,
)

NOBODY = 65534
OWN = ("/tmp", "/root", "/run", "/dev/shm", "/etc")  # noqa: S108 - of each host
KINDS = ("net", "mnt", "pid", "uts", "ipc")
DRIVER = """
import sys, time
from pathlib import Path
from tests.cluster.hosts import Hosts
with Hosts(Path(sys.argv[1])) as hosts:
    print(*(process.pid for host in ("op", "head", "w1", "w2") for process in hosts.processes(host)), flush=True)
    time.sleep(100)
"""


def on(hosts: Hosts, host: str, script: str) -> str:
    return hosts.run(host, ["bash", "-c", script]).stdout.strip()


def namespaces(pid: int) -> set[str]:
    """Return the namespaces that a process is in; none where it has ended."""
    try:
        return {str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in KINDS}
    except OSError:
        return set()


def in_use() -> set[str]:
    """Return the namespaces of all processes of this machine."""
    return set().union(*(namespaces(pid) for pid in psutil.pids()))


def named_networks() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def reaches(hosts: Hosts, host: str, other: str) -> bool:
    """Return whether a host can open a connection to another's sshd."""
    attempt = ["timeout", "2", "bash", "-c", f": </dev/tcp/{ADDRESSES[other]}/22"]
    return hosts.run(host, attempt, check=False).returncode == 0


def test_each_host_has_its_own_files_name_and_namespaces_and_sees_the_shared_folder(scratch: Path) -> None:
    with Hosts(scratch) as hosts:
        for host in ADDRESSES:
            on(hosts, host, f"for place in {' '.join(OWN)} /shared; do touch $place/of-{host}; done")
        for host in ADDRESSES:
            assert on(hosts, host, "hostname") == host
            assert set(on(hosts, host, f"ls -d {' '.join(f'{place}/of-*' for place in OWN)}").split()) == {
                f"{place}/of-{host}" for place in OWN
            }
            assert set(on(hosts, host, "ls /shared").split()) == {f"of-{each}" for each in ADDRESSES}
        assert {path.name for path in hosts.shared.iterdir()} == {f"of-{host}" for host in ADDRESSES}
        assert [path for place in OWN for path in Path(place).glob("of-*")] == []
        firsts = [namespaces(hosts.processes(host)[0].pid) for host in ADDRESSES]
        assert all(len(each) == len(KINDS) for each in firsts)
        assert len(set().union(*firsts, namespaces(os.getpid()))) == len(KINDS) * (len(ADDRESSES) + 1)


def test_python_of_this_environment_runs_on_every_host_and_knows_the_project(scratch: Path) -> None:
    with Hosts(scratch) as hosts:
        for host in ADDRESSES:
            assert on(hosts, host, "python -c 'import raybench; print(raybench.__file__)'").startswith(str(ROOT))


def test_a_process_that_lost_its_parent_is_taken_leave_of(scratch: Path) -> None:
    with Hosts(scratch) as hosts:
        on(hosts, HEAD, "(setsid sleep 0.3 & exit)")
        wait_until(lambda: not hosts.pids(HEAD, "sleep"), "an end of the process", seconds=20)


def test_the_operator_logs_in_everywhere_by_key_and_nobody_without(scratch: Path) -> None:
    login = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no"
    with Hosts(scratch) as hosts:
        for host in (HEAD, *INSTANCE_TYPES):
            assert on(hosts, OPERATOR, f"{login} -i {KEY} {host} hostname") == host
        with pytest.raises(HostsError, match="Permission denied"):
            on(hosts, HEAD, f"{login} w1 hostname")


def test_workers_tell_their_type_as_ec2_machines_do_to_whoever_shows_a_token(scratch: Path) -> None:
    latest = "http://169.254.169.254/latest"
    with Hosts(scratch) as hosts:
        for host, instance_type in INSTANCE_TYPES.items():
            token = on(hosts, host, f"curl -sf -X PUT {latest}/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 9'")
            asking = f"curl -sf {latest}/meta-data/instance-type"
            assert on(hosts, host, f"{asking} -H 'X-aws-ec2-metadata-token: {token}'") == instance_type
            with pytest.raises(HostsError, match="ended with 22"):
                on(hosts, host, asking)


def test_a_host_that_is_cut_off_is_reached_again_once_its_link_is_mended(scratch: Path) -> None:
    with Hosts(scratch) as hosts:
        assert reaches(hosts, HEAD, "w1")
        hosts.cut("w1")
        assert not reaches(hosts, HEAD, "w1")
        assert reaches(hosts, HEAD, "w2")
        hosts.mend("w1")
        wait_until(lambda: reaches(hosts, HEAD, "w1"), "a way to w1", seconds=20)


def test_two_sets_of_hosts_never_meet(scratch: Path, tmp_path: Path) -> None:
    with Hosts(scratch) as hosts, Hosts(tmp_path / "others") as others:
        others.cut("w1")
        assert not reaches(others, HEAD, "w1")
        assert reaches(hosts, HEAD, "w1")


def test_nothing_is_left_of_hosts_whose_use_is_broken_off(scratch: Path) -> None:
    networks, mounts = named_networks(), Path("/proc/mounts").read_text()
    with pytest.raises(KeyboardInterrupt), Hosts(scratch) as hosts:  # noqa: PT012 - of what is in it, all but the last line works
        for host in ADDRESSES:
            on(hosts, host, "setsid sleep 100 >/dev/null 2>&1 & mkdir /tmp/mine; mount -t tmpfs tmpfs /tmp/mine")
        processes = [process for host in ADDRESSES for process in hosts.processes(host)]
        theirs = set().union(*(namespaces(process.pid) for process in processes)) - namespaces(os.getpid())
        assert len(theirs) == len(KINDS) * len(ADDRESSES)
        assert sum(process.name() == "sleep" for process in processes) == len(ADDRESSES)
        raise KeyboardInterrupt
    assert [process for process in processes if process.is_running()] == []
    assert not theirs & in_use()
    assert named_networks() == networks
    assert Path("/proc/mounts").read_text() == mounts
    assert not scratch.exists()


def test_hosts_end_with_the_process_that_made_them_even_where_it_is_killed(scratch: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(scratch)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with driver:
        assert driver.stdout is not None
        inside = [psutil.Process(int(pid)) for pid in driver.stdout.readline().split()]
        assert len(inside) >= len(ADDRESSES)
        driver.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(inside, timeout=20)
    assert alive == []
    shutil.rmtree(scratch)  # files, a killed process cannot remove


def test_an_error_while_hosts_are_there_shows_what_they_wrote(scratch: Path) -> None:
    with pytest.raises(HostsError, match="ended with 7") as raised, Hosts(scratch) as hosts:
        on(hosts, "w1", "exit 7")
    (note,) = raised.value.__notes__
    assert "==> w1 <==\nServer listening on" in note


def test_somebody_without_the_rights_is_told_why_there_are_no_hosts() -> None:
    if os.geteuid() != 0:
        assert why_not() == "hosts of one's own need root"
        return
    os.seteuid(NOBODY)
    try:
        assert why_not() == "hosts of one's own need root"
    finally:
        os.seteuid(0)
