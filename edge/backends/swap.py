"""From one engine to another while they fly: between two inferences, and back in the midst of one that fails.

The flight begins on ONNX Runtime. When an accelerator is ready and has answered the golden examples, each graph changes
over at its next inference; nothing waits, and nothing is lost. When it fails, or answers what is not finite where ONNX
Runtime does not, the very inputs that it failed on go to ONNX Runtime, and all graphs stay there until the next start.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.backends.cuda import GIVING_UP, UNFORESEEN
from edge.backends.golden import check_fusion, check_golden
from edge.backends.session import Engines, Session
from models.bundle import FUSION, Bundle, Precision
from models.errors import DeviceError, NotBuiltError, OnboardError

log = logging.getLogger(__name__)

ONNX_RUNTIME = "onnxruntime"
TENSORRT = "tensorrt"
NOT_FINITE = "answers that are not finite, where those of ONNX Runtime are: look at the GPU's temperature and dmesg"
LOADER = "load-tensorrt"
"""Name of the thread that loads in the background."""
LOOK_AGAIN_S = 20.0
"""For plans that are not built yet, while ONNX Runtime flies."""
_RELEASE_S = 2.0


class Accelerator(Protocol):
    """Engines on a device of their own."""

    description: str
    """What runs and how fast, in a line."""

    def engines(self) -> Engines:
        """Return the graphs; what they raise is a DeviceError."""

    def close(self, wait_s: float = 0.0) -> None:
        """Release everything; nobody uses the engines any more."""


Opener = Callable[[threading.Event], Accelerator]
"""Makes an accelerator ready, or raises OnboardError; gives up at the next chance once the event is set."""


@dataclass(frozen=True, slots=True)
class Flying:
    """Which engines fly."""

    backend: str
    """`onnxruntime` or `tensorrt`."""
    reason: str
    """Why it is not another one; what runs, where it is."""
    precisions: Mapping[str, Precision]


class SwitchedSession:
    """A graph of whichever engine flies. It changes over when `inputs` is asked for anew after a `run`."""

    def __init__(self, role: str, own: Session, swap: "HotSwap") -> None:
        self.role = role
        """The modality, or `fusion`."""
        self.own = own
        """The one that is always there."""
        self.offered = own
        """The one to fly from the next inference on; set by `HotSwap`."""
        self._flying = own
        self._swap = swap
        self._is_between = True

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """Buffers of the engine that flies now."""
        if self._is_between:
            self._is_between = False
            if self._flying is not self.offered:
                self._flying = self._swap.change_over(self)
        return self._flying.inputs

    @property
    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """What the last inference said."""
        return self._flying.outputs

    def run(self) -> bool:
        """Infer, and say whether the answer is finite; where the accelerator fails, the same once more without it."""
        self._is_between = True
        if self._flying is self.own:
            return self.own.run()
        failure = ""
        try:
            if self._flying.run():
                return True
        except DeviceError as error:
            failure = str(error)
        for name, array in self.own.inputs.items():
            np.copyto(array, self._flying.inputs[name], casting="no")
        if failure:
            self._give_up(failure)
            return self.own.run()
        is_finite = self.own.run()
        if is_finite:  # else the inputs are to blame, and the accelerator flies on
            self._give_up(f"{self.role}: {NOT_FINITE}")
        return is_finite

    def _give_up(self, failure: str) -> None:
        self._swap.fail(failure)
        self._flying = self._swap.change_over(self)


class HotSwap:
    """The engines of a bundle, and what they are changed for."""

    def __init__(self, bundle: Bundle, engines: Engines) -> None:
        """Begin with the engines that are there.

        Args:
            bundle: theirs.
            engines: of ONNX Runtime.
        """
        self._bundle = bundle
        self._precisions = engines.precisions
        sessions = {**engines.branches, FUSION: engines.fusion}
        self._switches = {role: SwitchedSession(role, session, self) for role, session in sessions.items()}
        self.engines = Engines(
            branches={name: self._switches[name] for name in engines.branches},
            fusion=self._switches[FUSION],
            precisions=engines.precisions,
        )
        """What the pipeline is to use; each changes over by itself."""
        self._lock = threading.Lock()
        self._accelerator: Accelerator | None = None
        self._aboard: set[str] = set()
        """Roles that fly on the accelerator, or still hold its memory."""
        self._closing = threading.Event()
        self._loader: threading.Thread | None = None
        self.flying = Flying(ONNX_RUNTIME, "", engines.precisions)
        """Which engines fly."""

    def load(self, open_accelerator: Opener) -> None:
        """Make an accelerator ready, ask it the golden examples, and offer it to every graph.

        Raises:
            OnboardError: it is not to be had, or answers otherwise; what flies goes on.
        """
        try:
            accelerator = open_accelerator(self._closing)
            engines = self._examine(accelerator)
        except UNFORESEEN as error:
            raise DeviceError(f"unforeseen: {error!r}: report it") from error
        with self._lock:
            is_late = self._closing.is_set()
            if not is_late:
                self._accelerator = accelerator
                self.flying = Flying(TENSORRT, accelerator.description, engines.precisions)
                for role, switch in self._switches.items():
                    switch.offered = engines.fusion if role == FUSION else engines.branches[role]
        if is_late:
            accelerator.close(_RELEASE_S)
        else:
            log.info("%s takes over: %s", TENSORRT, accelerator.description)

    def load_in_background(self, open_accelerator: Opener) -> None:
        """Do as `load`, in a thread; where it fails, `flying` says why. What is not built yet is looked for again."""

        def attempt() -> None:
            while not self._attempt(open_accelerator) and not self._closing.wait(LOOK_AGAIN_S):
                pass

        self._loader = threading.Thread(target=attempt, name=LOADER, daemon=True)
        self._loader.start()

    def _attempt(self, open_accelerator: Opener) -> bool:
        """Load, or tell why not; say whether that is final."""
        try:
            self.load(open_accelerator)
        except OnboardError as error:
            reason = str(error)
            if self._closing.is_set():
                log.info("%s is not loaded: %s", TENSORRT, reason)
            elif reason != self.flying.reason:
                self.flying = Flying(ONNX_RUNTIME, reason, self._precisions)
                log.warning("flying on with ONNX Runtime: %s", reason)
            return not isinstance(error, NotBuiltError)
        return True

    def change_over(self, switch: SwitchedSession) -> Session:
        """Return the session that a graph flies on from now on; when the last has left, the accelerator is released."""
        with self._lock:
            if switch.offered is switch.own:
                self._aboard.discard(switch.role)
            else:
                self._aboard.add(switch.role)
            abandoned = None if self._aboard else self._accelerator
            chosen = switch.offered
        if abandoned is not None:
            abandoned.close()
        return chosen

    def fail(self, reason: str) -> None:
        """Take every graph back to ONNX Runtime, each at its next inference at the latest."""
        with self._lock:
            if self.flying.backend == ONNX_RUNTIME:
                return
            for switch in self._switches.values():
                switch.offered = switch.own
            self.flying = Flying(ONNX_RUNTIME, reason, self._precisions)
        log.warning("%s failed, flying on with ONNX Runtime: %s", TENSORRT, reason)

    def close(self) -> None:
        """Release the accelerator, or let one that is being loaded give up; no thread uses `engines` any more."""
        with self._lock:
            self._closing.set()
            accelerator, self._accelerator = self._accelerator, None
        if accelerator is not None:
            accelerator.close(_RELEASE_S)
        if self._loader is not None:
            self._loader.join(_RELEASE_S)

    def _examine(self, accelerator: Accelerator) -> Engines:
        """Return an accelerator's graphs, which have answered the golden examples; it is released where they have not.

        Raises:
            OnboardError: as `load`.
        """
        try:
            engines = accelerator.engines()
            self._check_buffers(engines)
            check_golden(self._bundle, engines)
            if engines.precisions[FUSION] == "fp32":
                check_fusion(self._bundle, engines.fusion)
        except GIVING_UP as error:
            traceback.clear_frames(error.__traceback__)  # they hold memory that the GPU's own thread has to release
            accelerator.close(_RELEASE_S)
            raise
        return engines

    def _check_buffers(self, engines: Engines) -> None:
        """Raise DeviceError unless the graphs take and give the same arrays as those that fly now."""
        for role, switch in self._switches.items():
            other = engines.fusion if role == FUSION else engines.branches.get(role)
            expected = _kinds(switch.own)
            found = _kinds(other) if other is not None else {}
            if expected != found:
                unlike = sorted(name for name in {**expected, **found} if expected.get(name) != found.get(name))
                told = "; ".join(f"{name}: expected {expected.get(name)}, found {found.get(name)}" for name in unlike)
                raise DeviceError(f"the plan of {role} is of another graph ({told}): rebuild with uav-calibrate build")


def _kinds(session: Session) -> dict[str, str]:
    """Return type and shape of every input and output, by name."""
    return {name: f"{array.dtype}{array.shape}" for name, array in {**session.inputs, **session.outputs}.items()}
