import ctypes
from types import SimpleNamespace

import pytest

from edge.backends import device
from edge.backends.device import load_driver, platform_of, provider_version, read_device
from edge.backends.plan_key import DeviceFacts, target_facts
from models.errors import DeviceError


class Driver:
    """A CUDA driver of an Orin, in as many functions as are asked; `broken` answers with an error."""

    def __init__(self, broken=None):
        self.broken = broken

    def __getattr__(self, name):
        return lambda *arguments: 100 if name == self.broken else getattr(self, f"_{name}")(*arguments)

    def _cuInit(self, flags):  # noqa: N802
        return 0

    def _cuDeviceGet(self, device, index):  # noqa: N802
        device._obj.value = index
        return 0

    def _cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"Orin"
        return 0

    def _cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = {16: 16, 75: 8, 76: 7}[attribute]
        return 0

    def _cuDriverGetVersion(self, value):  # noqa: N802
        value._obj.value = 12060
        return 0


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (build@host)", "540.4.0"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024", "550.54.15"),
        ("something else", "CUDA 12.6"),
    ],
)
def test_the_facts_of_a_jetson_are_read(tmp_path, text, version):
    module, tegra = tmp_path / "version", tmp_path / "release"
    module.write_text(text)
    tegra.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    expected = DeviceFacts(compute_capability="8.7", gpu="Orin", sm_count=16, driver=version, l4t="36.4.3")
    assert read_device(Driver(), module, tegra) == expected


def test_what_is_no_jetson_has_no_release(tmp_path):
    facts = read_device(Driver(), tmp_path / "absent", tmp_path / "absent")
    assert (facts.driver, facts.l4t) == ("CUDA 12.6", "")


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"])
def test_a_driver_that_finds_no_gpu_is_named_with_call_and_remedy(tmp_path, call):
    with pytest.raises(DeviceError, match=f"{call} failed with CUDA error 100: .*nvidia-smi"):
        read_device(Driver(call), tmp_path, tmp_path)


def test_a_machine_without_a_driver_is_named_with_a_remedy(monkeypatch):
    def absent(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(device.ctypes, "CDLL", absent)
    with pytest.raises(DeviceError, match=r"found none .*cannot open.*: run this on the device, or install the driver"):
        load_driver()


class Library:
    def getInferLibBuildVersion(self):  # noqa: N802
        return 26


@pytest.mark.parametrize(
    ("provider", "told", "version"),
    [
        ("tensorrt", "10.3.0", "10.3.0.26"),
        ("tensorrt", "10.16.1.11", "10.16.1.11"),
        ("tensorrt_rtx", "1.7.1", "1.7.1"),
    ],
)
def test_the_fourth_part_of_a_version_is_asked_of_the_library(monkeypatch, provider, told, version):
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or Library())
    assert provider_version(provider, told) == version
    assert asked in ([], ["libnvinfer.so.10"])


def test_a_plan_is_for_all_four_parts_of_the_version(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    trt = SimpleNamespace(__name__="tensorrt", __version__="10.3.0")
    assert platform_of(trt, target_facts("8.7")).version == "10.3.0.26"


def test_a_library_that_does_not_tell_leaves_the_version_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert provider_version("tensorrt", "10.3.0") == "10.3.0"
