"""The GPU and what drives it: a line for each thing that must be there before a plan can run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.backends.cuda import Cuda, cuda_of_pycuda, load_libcuda, load_pycuda
from edge.backends.device import load_driver, platform_of, read_device
from edge.backends.plan_key import SUPPORTED, DeviceFacts, Platform
from edge.backends.session import Plans
from edge.backends.trt import TrtDevice, load_tensorrt, load_tensorrt_rtx
from edge.selfcheck.line import Line, judged, line_of_error
from models.errors import DeviceError

log = logging.getLogger(__name__)

LEAST_FREE_MIB = 256
_LEAST, _BELOW = SUPPORTED["tensorrt"]
_TENSORRT = f"TensorRT {'.'.join(map(str, _LEAST))} or newer, below {'.'.join(map(str, _BELOW))}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """All that is needed to run plans."""

    trt: Any
    """The module: TensorRT's, or that of TensorRT for RTX."""
    pycuda: Any
    libcuda: Any
    platform: Platform

    def cuda(self) -> Cuda:
        """Return the device, to be opened by the thread that will use it."""
        return Cuda(self.pycuda, self.libcuda)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Whether there is a GPU, and a line for each thing that was looked for."""

    gpu: Gpu | None
    lines: list[Line]


class _Search:
    """Looks for one thing after the other, and keeps a line of each."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def ask(self, name: str, expected: str, look: Callable[[], Any], told: Callable[[Any], str]) -> Any:
        """Return what a look finds; None where it raises, with the line of its error."""
        try:
            found = look()
        except DeviceError as error:
            self.lines.append(line_of_error(name, expected, error))
            return None
        self.lines.append(Line(name=name, status="ok", expected=expected, found=told(found)))
        return found


def find_gpu() -> Found:
    """Look for a GPU, its driver, TensorRT and pycuda; all are looked for, whichever is missing."""
    search = _Search()
    facts = search.ask("GPU", "an NVIDIA GPU with its driver", lambda: read_device(load_driver()), _facts_text)
    trt = search.ask("TensorRT", _TENSORRT, _load_trt, lambda module: f"{module.__name__} {module.__version__}")
    if trt is not None and trt.__name__ != "tensorrt":
        search.lines[-1] = Line(
            name="TensorRT",
            status="warning",
            expected=_TENSORRT,
            found=f"none, but TensorRT for RTX {trt.__version__}",
            remedy="what follows shows this GPU's answers and times, but no flight uses it: install TensorRT",
        )
    pycuda = search.ask("pycuda", "pycuda, built for this CUDA", load_pycuda, _pycuda_text)
    libcuda = search.ask(
        "CUDA driver", "11.4 or later, for CUDA graphs", load_libcuda, lambda _: "one with CUDA graphs"
    )
    if facts is None or trt is None or pycuda is None or libcuda is None:
        return Found(gpu=None, lines=search.lines)
    gpu = Gpu(trt=trt, pycuda=pycuda, libcuda=libcuda, platform=platform_of(trt, facts))
    return Found(gpu=gpu, lines=search.lines)


def try_gpu(gpu: Gpu) -> list[Line]:
    """Open the GPU and let TensorRT start on it: lines of what comes of it; the thread that calls it opens it."""
    cuda = gpu.cuda()
    device = TrtDevice(gpu.trt, cuda)
    name, expected = "TensorRT on the GPU", "a GPU on which TensorRT starts"
    try:
        device.load(Plans(by_role={}, precisions={}))
        free_bytes, whole_bytes = cuda.memory_bytes()
    except DeviceError as error:
        return [line_of_error(name, expected, error)]
    finally:
        device.close()
    free_mib = free_bytes >> 20
    return [
        Line(name=name, status="ok", expected=expected, found="it starts"),
        judged(
            "GPU memory",
            free_mib >= LEAST_FREE_MIB,
            f"{LEAST_FREE_MIB} MiB free",
            f"{free_mib} MiB of {whole_bytes >> 20}",
            "end other programs on the GPU; on a Jetson it is the host's memory, too",
            "warning",
        ),
    ]


def _load_trt() -> Any:
    try:
        return load_tensorrt()
    except DeviceError as error:
        reason = error
    try:
        return load_tensorrt_rtx()
    except DeviceError as error:
        log.debug("no TensorRT for RTX either: %s", error)
    raise reason


def _facts_text(facts: DeviceFacts) -> str:
    jetson = f", Jetson Linux {facts.l4t}" if facts.l4t else ""
    return (
        f"{facts.gpu}, compute capability {facts.compute_capability}, {facts.sm_count} multiprocessors, driver"
        f" {facts.driver}{jetson}"
    )


def _pycuda_text(driver: Any) -> str:
    return f"built for CUDA {cuda_of_pycuda(driver)}"
