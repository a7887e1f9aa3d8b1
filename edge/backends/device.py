"""What is to be known of this machine's GPU, from the driver's own library: no CUDA toolkit, no pycuda."""

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.backends.plan_key import DeviceFacts, Platform, check_supported
from models.errors import DeviceError

MODULE_VERSION = Path("/proc/driver/nvidia/version")
TEGRA_RELEASE = Path("/etc/nv_tegra_release")
_SM_COUNT, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 16, 75, 76  # CUdevice_attribute in cuda.h
_NAME_BYTES = 256


def load_driver() -> Any:
    """Return the CUDA driver's library.

    Raises:
        DeviceError: there is none.
    """
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceError(
            f"expected an NVIDIA GPU with its driver, found none ({error}): run this on the device, or install the"
            " driver"
        ) from error


def read_device(driver: Any, module: Path = MODULE_VERSION, tegra: Path = TEGRA_RELEASE) -> DeviceFacts:
    """Return what is to be known of the first GPU.

    Args:
        driver: as `load_driver` returns it.
        module: where the kernel's module tells its version; CUDA's version stands for it where it is absent.
        tegra: where Jetson Linux tells its release.
    Raises:
        DeviceError: the driver finds no GPU, or is too old for the question.
    """
    _call(driver, "cuInit", 0)
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
    _call(driver, "cuDeviceGetName", name, _NAME_BYTES, device)
    major, minor, sm_count = (
        _attribute(driver, device, one) for one in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR, _SM_COUNT)
    )
    return DeviceFacts(
        compute_capability=f"{major}.{minor}",
        gpu=name.value.decode("ascii", "replace"),
        sm_count=sm_count,
        driver=_first(module, r"Kernel Module[^\n]*?\s(\d+\.[\d.]+)", "{0}") or _cuda_version(driver),
        l4t=read_l4t(tegra),
    )


def read_l4t(tegra: Path = TEGRA_RELEASE) -> str:
    """Return the release of Jetson Linux, such as 36.4.3; empty where it is not one."""
    return _first(tegra, r"R(\d+) \(release\), REVISION: ([\d.]+)", "{0}.{1}")


def platform_of(trt: Any, facts: DeviceFacts) -> Platform:
    """Return what plans are built by and for; `trt` is the module.

    Raises:
        DeviceError: this version is not supported.
    """
    provider = str(trt.__name__)
    check_supported(provider, trt.__version__)
    return Platform(provider=provider, version=provider_version(provider, trt.__version__), facts=facts)


def provider_version(provider: str, told: str, libraries: Sequence[str] = ()) -> str:
    """Return a provider's version in all four parts, where its library tells the fourth.

    Args:
        provider: `tensorrt` or `tensorrt_rtx`.
        told: what the module says; that of JetPack says three parts.
        libraries: file names to ask, by default the one that belongs to `told`.
    """
    if told.count(".") >= 3 or provider != "tensorrt":
        return told
    for file in libraries or (f"libnvinfer.so.{told.partition('.')[0]}",):
        try:
            return f"{told}.{ctypes.CDLL(file).getInferLibBuildVersion()}"
        except (OSError, AttributeError):  # not there, or too old to tell
            continue
    return told


def _attribute(driver: Any, device: ctypes.c_int, attribute: int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return value.value


def _cuda_version(driver: Any) -> str:
    value = ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(value))
    return f"CUDA {value.value // 1000}.{value.value % 1000 // 10}"


def _call(driver: Any, name: str, *arguments: Any) -> None:
    """Call the driver; raise DeviceError where it answers with an error."""
    code = getattr(driver, name)(*arguments)
    if code:
        raise DeviceError(
            f"{name} failed with CUDA error {code}: expected a GPU that answers; look at nvidia-smi and dmesg, or"
            " install the driver that belongs to this CUDA"
        )


def _first(path: Path, pattern: str, form: str) -> str:
    """Return what a file says where the pattern is found, else nothing."""
    try:
        found = re.search(pattern, path.read_text("utf-8", "replace"))
    except OSError:
        return ""
    return form.format(*found.groups()) if found else ""
