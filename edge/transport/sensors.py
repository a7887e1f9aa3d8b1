"""A sensor's message as a model takes it, in flight and in training alike: what fits a recipe, and what is in it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.transport.image_header import encoded_image_size, has_end
from edge.transport.messages import Kind
from edge.transport.wire import Header, Reason, as_array
from models.preprocess import opencv
from models.spec import ImageRecipe, IqRecipe, Recipe

RATE_TOLERANCE = 0.01
"""Relative difference of sample rates at which a branch still sees what it was trained on."""
_FRAMES = (Kind.FRAME, Kind.ENCODED_FRAME)


def fit_header(header: Header, recipe: Recipe) -> Header | Reason:
    """Return a message's header with the capture time of what a recipe takes of it, or why it takes nothing.

    An I/Q message counts as captured when its newest window was.
    """
    if isinstance(recipe, ImageRecipe) and header.kind in _FRAMES:
        return header
    if not isinstance(recipe, IqRecipe):
        return Reason.KIND
    reason = check_samples(header, recipe)
    if reason is not None:
        return reason
    skipped = header.dim0 - recipe.window_samples
    if skipped < 0:
        return Reason.SHORT_WINDOW
    if skipped == 0:
        return header
    return header.captured(header.capture_ns + int(skipped * 1e9 / recipe.sample_rate_hz))


def check_samples(header: Header, recipe: IqRecipe) -> Reason | None:
    """Return why a message holds no samples for a recipe, however many; None where it does."""
    if header.kind != Kind.IQ or header.dim1 != 2:
        return Reason.KIND
    if not abs(header.sample_rate_hz - recipe.sample_rate_hz) <= RATE_TOLERANCE * recipe.sample_rate_hz:
        return Reason.SAMPLE_RATE
    return Reason.SHORT_WINDOW if header.dim0 == 0 else None


def newest_window(header: Header, payload: bytes | memoryview, window_samples: int) -> NDArray[Any]:
    """Return the last window of an I/Q message, (window_samples, 2)."""
    return as_array(header, payload)[-window_samples:]


def decode_frame(header: Header, payload: bytes | memoryview, max_frame_px: int) -> NDArray[np.uint8] | Reason:
    """Return the frame of an image message, (height, width, 3) BGR, or why there is none."""
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
