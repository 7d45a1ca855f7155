"""A run whose directory is in an object store that speaks Amazon's protocol: made here, read and extended elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import raybench
from raybench.errors import RunError
from raybench.mirror import Mirror
from raybench.scheduling.cluster import quiet_ray, ray_session
from raybench.store_lease import StoreLease
from tests.commands import raybench as command
from tests.stores import object_store

pytestmark = pytest.mark.minutes

SMALL = """
name: small
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [50]}]
models: [resnet8]
strategies: [linear-probe, fine-tune]
training: {epochs: 2}
resources: {measure: false}
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket, and a Ray whose processes find it."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        object_store(monkeypatch) as uri,
        quiet_ray(),
        ray_session(num_cpus=1),
    ):
        yield uri


@pytest.fixture(scope="module")
def small(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return an experiment that has been run, and where."""
    file = tmp_path_factory.mktemp("store") / "small.yaml"
    file.write_text(SMALL)
    raybench.run(file, run_dir=f"{bucket}/runs/small", quiet=True)
    return file, f"{bucket}/runs/small"


@pytest.fixture
def _another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have nothing but the store."""
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_another_machine")
def test_another_machine_ranks_shows_and_exports_it(
    small: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, uri = small
    rows = raybench.load_results(uri)
    assert rows["status"].tolist() == ["completed"] * 2
    assert command("rank", uri) == 0
    assert command("show", uri, rows["trial_id"][0]) == 0
    capsys.readouterr()
    assert command("export", uri, rows["trial_id"][0], "--output", tmp_path / "net.safetensors") == 0
    assert (tmp_path / "net.safetensors").stat().st_size > 0, "weights are brought when they are asked for"


def test_more_seeds_train_what_is_new_alone(small: tuple[Path, str]) -> None:
    file, uri = small
    before = raybench.load_results(uri).set_index("trial_id")["finished_at"]
    raybench.run(file, run_dir=uri, overrides=["seeds=[0, 1]"], quiet=True)
    after = raybench.load_results(uri).set_index("trial_id")
    assert after["status"].tolist() == ["completed"] * 4
    assert after.loc[before.index, "finished_at"].tolist() == before.tolist()


def test_a_second_driver_is_told_who_runs_it(small: tuple[Path, str], tmp_path: Path) -> None:
    file, uri = small
    about = {"host": "elsewhere", "pid": 17, "since": "2026-01-01T00:00:00+00:00"}
    lease = StoreLease(Mirror(tmp_path, uri), json.dumps(about))
    lease.acquire()
    try:
        with pytest.raises(RunError, match="is being run by process 17 on elsewhere since 2026-01-01"):
            raybench.run(file, run_dir=uri, quiet=True)
    finally:
        lease.release()


def test_a_bucket_that_is_not_there_is_one_message(small: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = small
    assert command("run", file, "--run-dir", "s3://no-such-bucket/run") == 2
    assert capsys.readouterr().err == (
        "raybench: s3://no-such-bucket/run: cannot be written: The specified bucket does not exist (NO_SUCH_BUCKET); "
        "give another --run-dir\n"
    )
