"""One stream's way from a message to a feature: decode, gate, preprocess, infer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.backends.onnx import ENGINE_ERRORS
from edge.backends.session import Session
from edge.clock import Clock
from edge.config import StreamConfig
from edge.pipeline.alignment import Feature
from edge.pipeline.framing import Framing
from edge.pipeline.gate import Gate
from edge.pipeline.scheduler import Admitted, Arrival
from edge.transport.inbox import Payload, is_intact, payload_view
from edge.transport.sensors import check_samples, decode_frame, fit_header, newest_window
from edge.transport.wire import Header, Reason
from models.preprocess import Scratch, preprocess
from models.spec import IqRecipe, ModalitySpec


class Branch:
    """Turns the messages of one stream into features of its modality. Never raises on data, only names a reason."""

    def __init__(self, modality: ModalitySpec, engine: Session, clock: Clock, stream: StreamConfig) -> None:
        self.modality = modality
        self._engine = engine
        self._clock = clock
        self._max_frame_px = stream.max_frame_px
        self._gate = Gate()
        recipe = modality.recipe
        self._framing = Framing(recipe, stream.rate_hz) if isinstance(recipe, IqRecipe) else None
        self._scratch = Scratch()
        self._rehearses = stream.rehearse
        self._practice_gate = Gate()
        """Judges what is rehearsed, so that the real one does not see it twice."""
        self._last: Arrival | None = None

    def admit(self, message: tuple[Header, Payload] | Reason) -> Admitted:
        """Return a received message as this branch will take it, or why it cannot, by its header alone.

        An I/Q message counts as captured when its newest window was, the only one that is inferred. One that is shorter
        than a window is gathered until later ones complete it.
        """
        if isinstance(message, Reason):
            return message
        header, payload = message
        if self._framing is not None and header.dim0 < self._framing.window_samples:
            return self._gather(self._framing, header, payload)
        fitting = fit_header(header, self.modality.recipe)
        return fitting if isinstance(fitting, Reason) else (fitting, payload)

    def _gather(self, framing: Framing, header: Header, payload: Payload) -> Admitted:
        reason = check_samples(header, framing.recipe)
        if reason is not None:
            return reason
        gathered = framing.gather(header, payload_view(payload))
        if not is_intact(payload):
            return header, framing.give_up()
        return gathered

    def process(self, arrival: Arrival) -> Feature | Reason:
        """Return the feature of an admitted message, or why there is none."""
        started_ns = self._clock.now_ns()
        reason = self._prepare(arrival, self._gate)
        if not is_intact(arrival.payload):
            return Reason.OVERWRITTEN  # whatever was made of it
        if reason is not None:
            return reason
        if self._rehearses:
            self._last = arrival
        preprocessed_ns = self._clock.now_ns()
        inferred = self._infer()
        if inferred is None:
            return Reason.ENGINE
        vector, logits = inferred
        return Feature(
            modality=self.modality.name,
            stream=arrival.stream,
            capture_ns=arrival.header.capture_ns,
            send_ns=arrival.header.send_ns,
            arrived_ns=arrival.arrived_ns,
            taken_ns=arrival.taken_ns,
            preprocess_ns=preprocessed_ns - started_ns,
            completed_ns=self._clock.now_ns(),
            vector=vector,
            logits=logits,
        )

    def rehearse(self) -> None:
        """Do all the work of `process` on the last good message once more, and forget what comes of it."""
        last = self._last
        if last is not None and self._prepare(last, self._practice_gate) is None and is_intact(last.payload):
            self._infer()

    def _infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return feature and logits of what is in the engine's input; None where it fails or is not finite."""
        try:
            is_finite = self._engine.run()
        except ENGINE_ERRORS:
            return None
        outputs = self._engine.outputs
        return (outputs["feature"][0].copy(), outputs["logits"][0].copy()) if is_finite else None

    def _prepare(self, arrival: Arrival, gate: Gate) -> Reason | None:
        """Put a message's data into the engine's input, or return why there is none."""
        recipe = self.modality.recipe
        data: NDArray[Any] | Reason
        if isinstance(recipe, IqRecipe):
            data = self._window(arrival, gate, recipe.window_samples)
        else:
            data = self._frame(arrival, gate)
        if isinstance(data, Reason):
            return data
        preprocess(data, recipe, self._engine.inputs["input"][0], self._scratch)
        return None

    def _window(self, arrival: Arrival, gate: Gate, samples: int) -> NDArray[Any] | Reason:
        """Return the newest window of an I/Q message."""
        window = newest_window(arrival.header, payload_view(arrival.payload), samples)
        return gate.check_iq(window) or window

    def _frame(self, arrival: Arrival, gate: Gate) -> NDArray[np.uint8] | Reason:
        """Return the decoded frame of an image message."""
        frame = decode_frame(arrival.header, payload_view(arrival.payload), self._max_frame_px)
        return frame if isinstance(frame, Reason) else gate.check_frame(frame) or frame
