"""One stream's way from a message to a feature: decode, gate, preprocess, infer."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.backends.onnx import ENGINE_ERRORS, OnnxSession
from edge.clock import Clock
from edge.config import StreamConfig
from edge.pipeline.alignment import Feature
from edge.pipeline.gate import Gate
from edge.pipeline.image_header import encoded_image_size, has_end
from edge.pipeline.scheduler import Arrival
from edge.transport.messages import Kind
from edge.transport.wire import Header, Reason, as_array
from models.preprocess import opencv, preprocess
from models.spec import ImageRecipe, IqRecipe, ModalitySpec

RATE_TOLERANCE = 0.01
"""Relative difference of sample rates at which a branch still sees what it was trained on."""
Payload = bytes | memoryview
_FRAMES = (Kind.FRAME, Kind.ENCODED_FRAME)


class Branch:
    """Turns the messages of one stream into features of its modality. Never raises on data, only names a reason."""

    def __init__(self, modality: ModalitySpec, engine: OnnxSession, clock: Clock, stream: StreamConfig) -> None:
        self.modality = modality
        self._engine = engine
        self._clock = clock
        self._max_frame_px = stream.max_frame_px
        self._gate = Gate()

    def admit(self, message: tuple[Header, Payload] | Reason) -> tuple[Header, Payload] | Reason:
        """Return a received message as this branch will take it, or why it cannot, by its header alone.

        An I/Q message counts as captured when its newest window was, the only one that is inferred.
        """
        if isinstance(message, Reason):
            return message
        header, payload = message
        recipe = self.modality.recipe
        if isinstance(recipe, ImageRecipe) and header.kind in _FRAMES:
            return message
        if not isinstance(recipe, IqRecipe) or header.kind != Kind.IQ or header.dim1 != 2:
            return Reason.KIND
        skipped = header.dim0 - recipe.window_samples
        if skipped < 0:
            return Reason.SHORT_WINDOW
        if not abs(header.sample_rate_hz - recipe.sample_rate_hz) <= RATE_TOLERANCE * recipe.sample_rate_hz:
            return Reason.SAMPLE_RATE
        later_ns = int(skipped * 1e9 / recipe.sample_rate_hz)
        return header._replace(capture_ns=header.capture_ns + later_ns), payload

    def process(self, arrival: Arrival) -> Feature | Reason:
        """Return the feature of an admitted message, or why there is none."""
        started_ns = self._clock.now_ns()
        is_iq = isinstance(self.modality.recipe, IqRecipe)
        data = self._window(arrival) if is_iq else self._frame(arrival)
        if isinstance(data, Reason):
            return data
        preprocess(data, self.modality.recipe, self._engine.inputs["input"][0])
        preprocessed_ns = self._clock.now_ns()
        try:
            self._engine.run()
        except ENGINE_ERRORS:
            return Reason.ENGINE
        vector, logits = self._engine.outputs["feature"][0].copy(), self._engine.outputs["logits"][0].copy()
        if not math.isfinite(float(vector.sum(dtype=np.float64)) + sum(logits.tolist())):
            return Reason.ENGINE
        return Feature(
            modality=self.modality.name,
            capture_ns=arrival.header.capture_ns,
            send_ns=arrival.header.send_ns,
            arrived_ns=arrival.arrived_ns,
            taken_ns=arrival.taken_ns,
            preprocess_ns=preprocessed_ns - started_ns,
            completed_ns=self._clock.now_ns(),
            vector=vector,
            logits=logits,
        )

    def _window(self, arrival: Arrival) -> NDArray[Any] | Reason:
        """Return the newest window of an I/Q message."""
        length = self.modality.recipe.input_shape[1]
        window = as_array(arrival.header, arrival.payload)[-length:]
        return self._gate.check_iq(window) or window

    def _frame(self, arrival: Arrival) -> NDArray[np.uint8] | Reason:
        """Return the decoded frame of an image message."""
        frame = _decode_frame(arrival.header, arrival.payload, self._max_frame_px)
        return frame if isinstance(frame, Reason) else self._gate.check_frame(frame) or frame


def _decode_frame(header: Header, payload: bytes | memoryview, max_frame_px: int) -> NDArray[np.uint8] | Reason:
    if header.kind == Kind.FRAME:
        if header.dim2 != 3 or header.dtype != 1 or header.payload_bytes == 0:
            return Reason.DIMS
        return as_array(header, payload)
    size = encoded_image_size(payload)
    if size is None or not has_end(payload):
        return Reason.DECODE
    if size[0] * size[1] > max_frame_px:
        return Reason.TOO_LARGE
    cv2 = opencv()
    try:
        frame = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return Reason.DECODE
    if frame is None or frame.shape[0] * frame.shape[1] != size[0] * size[1]:
        return Reason.DECODE
    decoded: NDArray[np.uint8] = frame
    return decoded
