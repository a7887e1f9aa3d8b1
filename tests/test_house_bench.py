"""The naive pipeline under tests/bench: it prepares what we prepare, and answers the same messages."""

import dataclasses

import numpy as np
import pytest
from bench.naive import newest_window, planes
from bench.rival import duel

from edge.bench.feed import Feed, Messages
from edge.bench.plan import QUICK
from edge.transport.messages import Kind
from edge.transport.wire import Stamp, decode_message, encode_array
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.preprocess import preprocess

STAMP = Stamp(1, 1, 1, 0, 0)
SIMILAR = 0.5
"""Of a normalised grey value: the rival averages areas in one step, we halve and interpolate."""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def test_the_rival_prepares_windows_as_we_do(bundle: Bundle) -> None:
    modality = bundle.spec.modality("iq")
    feed = Feed(name="iq", modality=modality, rate_hz=100.0, folder="", payload="iq", samples=10_000)
    samples, window = Messages(feed).at(0), modality.recipe.window_samples
    ours = np.zeros(modality.recipe.input_shape, np.float32)
    preprocess(samples[-window:], modality.recipe, ours)
    np.testing.assert_allclose(newest_window(samples, window), ours, atol=1e-4)


def test_the_rival_prepares_frames_as_we_do(bundle: Bundle) -> None:
    modality = bundle.spec.modality("image")
    frame = Messages(Feed(name="image", modality=modality, rate_hz=30.0, folder="", payload="raw")).at(0)
    ours = np.zeros(modality.recipe.input_shape, np.float32)
    preprocess(frame, modality.recipe, ours)
    header, payload = decode_message(encode_array(Kind.FRAME, STAMP, frame))
    assert np.abs(planes(header, payload, modality.recipe) - ours).mean() < SIMILAR


def test_both_answer_the_same_messages_and_the_naive_one_falls_behind(bundle: Bundle) -> None:
    lengths = dataclasses.replace(QUICK, camera_rate_hz=60.0)
    found = duel(bundle, "image", 1.0, 1.0, lengths)
    assert found.offered_per_s > 0
    assert found.ours_age_ms["answers"] > 0
    assert found.naive_age_ms["answers"] > 0
