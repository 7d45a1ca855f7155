"""What is made of the answers of NVIDIA's driver; on a machine with a GPU, of the real ones."""

from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest

from raybench import nvidia
from raybench.nvidia import Card, Slice, find_cards, mps_runs

GIGABYTE = 10**9
NOT_SUPPORTED = 3
NOT_FOUND = 6


def memory(gigabytes: int, used: int = 0) -> Any:  # noqa: ANN401 - a structure of the driver's
    return SimpleNamespace(total=gigabytes * GIGABYTE, used=used * GIGABYTE)


class Driver:
    """Answers as NVML does, of devices by number; an answer that a device lacks is not supported by it."""

    def __init__(self, *devices: dict[str, Any]) -> None:
        self.devices = devices
        self.open = False

    def answer(self, name: str, device: Any, *arguments: Any) -> Any:  # noqa: ANN401 - as the driver
        assert self.open
        if name not in device:
            raise pynvml.NVMLError(NOT_SUPPORTED)
        answer = device[name]
        return answer(*arguments) if callable(answer) else answer


def handle_of(slices: dict[int, dict[str, Any]]) -> Any:  # noqa: ANN401
    def handle(number: int) -> dict[str, Any]:
        if number not in slices:
            raise pynvml.NVMLError(NOT_FOUND)
        return slices[number]

    return handle


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """Put a driver in the place of this machine's."""

    def put(driver: Driver) -> None:
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: setattr(driver, "open", True))
        monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: setattr(driver, "open", False))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(driver.devices))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: driver.devices[index])
        for name in (
            "Name",
            "UUID",
            "MemoryInfo",
            "UtilizationRates",
            "ComputeMode",
            "MigMode",
            "MaxMigDeviceCount",
            "MigDeviceHandleByIndex",
        ):
            monkeypatch.setattr(
                pynvml,
                f"nvmlDeviceGet{name}",
                lambda device, *arguments, name=name: driver.answer(name, device, *arguments),
            )

    return put


def test_a_card_is_told_with_its_use_and_who_may_use_it(drive: Any) -> None:  # noqa: ANN401
    driver = Driver(
        {
            "Name": b"NVIDIA A10G",
            "MemoryInfo": memory(24, used=6),
            "UtilizationRates": SimpleNamespace(gpu=40),
            "ComputeMode": pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS,
        },
        {"Name": "NVIDIA L4", "MemoryInfo": memory(24)},
    )
    drive(driver)
    busy, plain = find_cards()
    assert busy == Card(
        index=0,
        name="NVIDIA A10G",
        memory_bytes=24 * GIGABYTE,
        used_bytes=6 * GIGABYTE,
        busy=0.4,
        exclusive=True,
        sliced=False,
        slices=(),
    )
    assert (plain.index, plain.busy, plain.exclusive, plain.sliced) == (1, None, False, False)
    assert not driver.open


def test_slices_are_told_by_what_names_them_also_where_numbers_are_left_out(drive: Any) -> None:  # noqa: ANN401
    slices = {
        number: {"Name": "H100 MIG 1g.10gb", "UUID": f"MIG-{number}", "MemoryInfo": memory(10)} for number in (0, 2)
    }
    drive(
        Driver(
            {
                "Name": "H100",
                "MemoryInfo": memory(80),
                "MigMode": [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE],
                "MaxMigDeviceCount": 7,
                "MigDeviceHandleByIndex": handle_of(slices),
            }
        )
    )
    (card,) = find_cards()
    assert card.sliced
    assert card.slices == tuple(
        Slice(uuid=f"MIG-{number}", name="H100 MIG 1g.10gb", memory_bytes=10 * GIGABYTE) for number in (0, 2)
    )


def test_there_are_none_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert find_cards() == ()


@pytest.mark.parametrize(("name", "runs"), [(nvidia.MPS_CONTROL, True), ("python", False)])
def test_mps_is_known_by_its_process(name: str, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [SimpleNamespace(info={"name": each}) for each in ("init", name)]
    monkeypatch.setattr(psutil, "process_iter", lambda _: iter(processes))
    assert mps_runs() is runs
