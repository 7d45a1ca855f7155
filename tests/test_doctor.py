"""What the doctor says about a machine, thing by thing."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from raybench import doctor
from raybench.doctor import Check, Level
from raybench.nvidia import Card, Slice
from raybench.training.devices import Devices, Gpu

GIGABYTE = doctor.GIGABYTE
SOMEWHERE = Path("/somewhere")


def devices(*gpus: Gpu, cuda: str | None = "13.0") -> Devices:
    return Devices(torch_version="2.14.1", cuda_version=cuda, gpus=gpus, cpu_threads=2)


def card(
    *, used: float | None = 0.0, busy: float | None = 0.0, exclusive: bool = False, slices: int | None = None
) -> Card:
    """Return a GPU of 80 GB, of whose memory a part is in use; without slices MIG is off."""
    parts = (Slice(uuid=f"MIG-{number}", name="1g.10gb", memory_bytes=10 * GIGABYTE) for number in range(slices or 0))
    return Card(
        index=3,
        name="H100",
        memory_bytes=80 * GIGABYTE,
        used_bytes=None if used is None else int(used * 80 * GIGABYTE),
        busy=busy,
        exclusive=exclusive,
        sliced=slices is not None,
        slices=tuple(parts),
    )


def disk(free_gigabytes: float, *, writable: bool = True) -> Check:
    return doctor.check_disk("Disk", SOMEWHERE, free_bytes=int(free_gigabytes * GIGABYTE), writable=writable)


@pytest.mark.parametrize(
    ("check", "level", "says"),
    [
        (doctor.check_python((3, 11, 0)), Level.OK, "3.11.0"),
        (doctor.check_python((3, 10, 14)), Level.FAIL, "3.11 or later"),
        (doctor.check_packages({"torch": "2.6", "ray": "2.60"}), Level.OK, "torch 2.6, ray 2.60"),
        (doctor.check_packages({"torch": None, "ray": "2.60"}), Level.FAIL, "not installed: torch"),
        (doctor.check_gpus(devices(Gpu(name="A10G", memory_bytes=24 * GIGABYTE))), Level.OK, "A10G (24.0 GB)"),
        (doctor.check_gpus(devices(*[Gpu(name="L4", memory_bytes=24 * GIGABYTE)] * 4)), Level.OK, "4 x L4 (24.0 GB)"),
        (doctor.check_gpus(devices()), Level.WARN, "CUDA 13.0"),
        (doctor.check_card(card(used=0.02), None), Level.OK, "H100 (80.0 GB), 2% of its memory in use, 0% busy"),
        (doctor.check_card(card(used=None, busy=None), None), Level.OK, "H100 (80.0 GB)"),
        (doctor.check_card(card(used=0.5), None), Level.WARN, "50% of its memory in use, 0% busy somebody uses it"),
        (doctor.check_card(card(busy=0.9), "3"), Level.WARN, "90% busy somebody uses it"),
        (doctor.check_card(card(exclusive=True), None), Level.WARN, "sudo nvidia-smi -i 3 -c DEFAULT"),
        (doctor.check_card(card(slices=0), None), Level.WARN, "none made yet"),
        (
            doctor.check_card(card(slices=2), "0"),
            Level.WARN,
            "CUDA_VISIBLE_DEVICES=MIG-0,MIG-1 raybench run FILE --num-gpus 2",
        ),
        (doctor.check_card(card(slices=2), "MIG-1"), Level.OK, "slices: 1g.10gb (10.0 GB), 1g.10gb (10.0 GB)"),
        (doctor.check_sharing(1, 8, mps=True), Level.OK, "compute at the same time"),
        (doctor.check_sharing(1, 8, mps=False), Level.OK, "take turns: that pays only where one alone leaves it idle"),
        (doctor.check_sharing(4, 7, mps=True), Level.WARN, "7 CPU cores for 4 GPUs trials that share a GPU would have"),
        (doctor.check_gpus(devices(cuda=None)), Level.WARN, "built for CPUs"),
        (doctor.check_processors(2, 16 * GIGABYTE, 8 * GIGABYTE), Level.OK, "2 CPU cores, 16.0 GB"),
        (doctor.check_processors(2, 16 * GIGABYTE, GIGABYTE), Level.WARN, "--num-cpus 1"),
        (disk(50), Level.OK, "50.0 GB free in /somewhere"),
        (disk(5), Level.WARN, "enough for the quickstart"),
        (disk(0.2), Level.FAIL, "free at least 1.0 GB"),
        (disk(50, writable=False), Level.FAIL, "/somewhere cannot be written to"),
        (doctor.check_ray_disk(SOMEWHERE, used_share=0.5), Level.OK, "50% full"),
        (doctor.check_ray_disk(SOMEWHERE, used_share=0.97), Level.WARN, "TMPDIR"),
        (doctor.check_shared_memory(8 * GIGABYTE), Level.OK, "8.0 GB"),
        (doctor.check_shared_memory(64 * 10**6), Level.WARN, "--shm-size"),
        (doctor.check_shared_memory(None), Level.OK, "does without"),
        (doctor.check_downloaded_weights([Path("/hub/resnet18.pth")]), Level.OK, "resnet18.pth"),
        (doctor.check_downloaded_weights([]), Level.WARN, "packaged"),
        (doctor.check_fashion_mnist(SOMEWHERE), Level.OK, "/somewhere"),
        (doctor.check_fashion_mnist(None), Level.WARN, "apt install dataset-fashion-mnist"),
        (doctor.check_digits(lambda: 1797), Level.OK, "1797 images"),
    ],
)
def test_finding_has_its_level_and_says_what_matters(check: Check, level: Level, says: str) -> None:
    assert check.level is level
    assert says in f"{check.detail} {check.advice}"
    assert bool(check.advice) == (level is not Level.OK)


@pytest.mark.parametrize("error", [ImportError("no sklearn"), FileNotFoundError("digits.csv.gz")])
def test_digits_that_cannot_be_loaded_are_a_failure(error: Exception) -> None:
    def load() -> int:
        raise error

    check = doctor.check_digits(load)
    assert check.level is Level.FAIL
    assert str(error) in check.detail


def test_missing_packaged_weights_are_named(tmp_path: Path) -> None:
    for name in ("resnet8.safetensors", "resnet8.json", "resnet20.safetensors"):
        (tmp_path / name).touch()
    assert doctor.check_packaged_weights(tmp_path).detail == "missing: resnet20.json"
    (tmp_path / "resnet20.json").touch()
    assert doctor.check_packaged_weights(tmp_path).level is Level.OK


def test_every_extra_has_its_install_command() -> None:
    checks = doctor.check_extras({"timm": "1.0", "datasets": None, "onnx": None})
    assert [check.level for check in checks] == [Level.OK, Level.WARN, Level.WARN]
    assert "pip install 'raybench[huggingface]'" in checks[1].advice


@pytest.mark.parametrize(("level", "able"), [(Level.OK, True), (Level.WARN, True), (Level.FAIL, False)])
def test_only_a_failure_keeps_the_quickstart_from_running(level: Level, able: bool) -> None:
    checks = [Check(name="first", level=Level.OK, detail=""), Check(name="second", level=level, detail="")]
    assert doctor.can_run_quickstart(checks) is able


def test_this_machine_is_examined_from_python_to_shared_memory(tmp_path: Path) -> None:
    checks = {check.name: check for check in doctor.diagnose(tmp_path / "not" / "there" / "yet")}
    for name in ("Python", "Packages", "Digits"):
        assert checks[name].level is Level.OK
    assert {"GPUs", "Fashion-MNIST", "Disk for runs", "Disk for images", "Shared memory", "Extra timm"} <= set(checks)
    assert "torch" in checks["Packages"].detail
    assert "onnxruntime" not in checks["Packages"].detail
    assert not list(tmp_path.iterdir())


@pytest.fixture
def shown() -> Callable[[Check], str]:
    def show(check: Check) -> str:
        console = Console(file=io.StringIO(), width=60)
        console.print(doctor.render([check]))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    return show


def test_table_shows_level_finding_and_advice(shown: Callable[[Check], str]) -> None:
    text = shown(Check(name="Disk", level=Level.WARN, detail="little [left]", advice="free some"))
    first, second = text.splitlines()
    assert first.split() == ["warn", "Disk", "little", "[left]"]
    assert second.strip() == "-> free some"


def test_looking_the_module_up_loads_neither_torch_nor_ray() -> None:
    code = "import sys, raybench.doctor; sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
