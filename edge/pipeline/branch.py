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


class Branch:
    """Turns the messages of one stream into features of its modality. Never raises on data, only names a reason."""

    def __init__(self, modality: ModalitySpec, engine: OnnxSession, clock: Clock, stream: StreamConfig) -> None:
        self.modality = modality
        self._engine = engine
        self._clock = clock
        self._max_frame_px = stream.max_frame_px
        self._gate = Gate()

    def process(self, arrival: Arrival) -> Feature | Reason:
        """Return the feature of a message, or why there is none."""
        started_ns = self._clock.now_ns()
        data, offset_ns = self._window(arrival) if isinstance(self.modality.recipe, IqRecipe) else self._frame(arrival)
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
            capture_ns=arrival.header.capture_ns + offset_ns,
            send_ns=arrival.header.send_ns,
            arrived_ns=arrival.arrived_ns,
            taken_ns=arrival.taken_ns,
            preprocess_ns=preprocessed_ns - started_ns,
            completed_ns=self._clock.now_ns(),
            vector=vector,
            logits=logits,
        )

    def _window(self, arrival: Arrival) -> tuple[NDArray[Any] | Reason, int]:
        """Return the newest window of an I/Q message, and how much later than the message it begins."""
        header, recipe = arrival.header, self.modality.recipe
        if header.kind != Kind.IQ or not isinstance(recipe, IqRecipe) or header.dim1 != 2:
            return Reason.KIND, 0
        if header.dim0 < recipe.window_samples:
            return Reason.SHORT_WINDOW, 0
        if abs(header.sample_rate_hz - recipe.sample_rate_hz) > RATE_TOLERANCE * recipe.sample_rate_hz:
            return Reason.SAMPLE_RATE, 0
        skipped = header.dim0 - recipe.window_samples
        window = as_array(header, arrival.payload)[skipped:]
        return self._gate.check_iq(window) or window, int(skipped * 1e9 / recipe.sample_rate_hz)

    def _frame(self, arrival: Arrival) -> tuple[NDArray[np.uint8] | Reason, int]:
        """Return the decoded frame of an image message; its capture time is the message's. A vector has no message."""
        if not isinstance(self.modality.recipe, ImageRecipe):
            return Reason.KIND, 0
        frame = _decode_frame(arrival.header, arrival.payload, self._max_frame_px)
        if isinstance(frame, Reason):
            return frame, 0
        return self._gate.check_frame(frame) or frame, 0


def _decode_frame(header: Header, payload: bytes | memoryview, max_frame_px: int) -> NDArray[np.uint8] | Reason:
    if header.kind == Kind.FRAME:
        if header.dim2 != 3 or header.dtype != 1 or header.payload_bytes == 0:
            return Reason.DIMS
        return as_array(header, payload)
    if header.kind != Kind.ENCODED_FRAME:
        return Reason.KIND
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
