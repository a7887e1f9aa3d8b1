"""No message carries a row of numbers: a stream that is to feed a vector is refused, and its modality is absent."""

from types import SimpleNamespace

import numpy as np
import pytest

from edge.clock import SystemClock
from edge.config import StreamConfig
from edge.pipeline.branch import Branch
from edge.recording.replay import streams_of
from edge.transport.messages import Kind
from edge.transport.wire import Reason, Stamp, decode_message, encode_array
from models.errors import ConfigError
from models.spec import IqRecipe, ModalitySpec, ModelSpec, VectorRecipe

BANDS = ModalitySpec(name="bands", recipe=VectorRecipe(values=4), feature_size=2)
IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=16, sample_rate_hz=1000), feature_size=2)


@pytest.mark.parametrize(
    ("kind", "array"), [(Kind.IQ, np.ones((16, 2), np.int16)), (Kind.FRAME, np.ones((4, 4, 3), np.uint8))]
)
def test_branch_of_a_vector_refuses_every_kind_of_message(kind, array):
    stream = StreamConfig(modality="bands", endpoint="ipc:///tmp/bands", rate_hz=1.0)
    branch = Branch(BANDS, SimpleNamespace(), SystemClock(), stream)
    message = decode_message(encode_array(kind, Stamp(1, 1, 1, 10, 10, 0, 1000.0), array))
    assert branch.admit(message) == Reason.KIND


def test_image_stream_of_a_recording_does_not_feed_a_vector(tmp_path):
    spec = ModelSpec(classes=("a", "b"), modalities=(IQ, BANDS))
    summary = SimpleNamespace(modality="image", rate_hz=1.0)
    recording = SimpleNamespace(path="flight.mcap", streams={"camera": summary})
    with pytest.raises(ConfigError, match=r"stream camera \(image\) fits the modalities \[\]"):
        streams_of(recording, spec, tmp_path)
