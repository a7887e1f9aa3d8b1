"""A branch that sees spectrograms, from the YAML of its training to the answer in flight."""

import math

import msgspec
import numpy as np
import pytest
import torch
from training import IMAGE, SPECTRUM, Silent, Tones, run_config

from calibration.export import Release, export_bundle
from edge.backends.golden import GOLDEN_TOLERANCE, check_golden
from edge.backends.onnx import load_engines
from edge.clock import VirtualClock
from edge.config import StreamConfig
from edge.pipeline.alignment import Feature
from edge.pipeline.branch import Branch
from edge.pipeline.scheduler import Arrival
from edge.transport.messages import Kind
from edge.transport.wire import Header, Stamp, decode_message, encode_array
from models.bundle import open_bundle
from models.nets.checkpoint import read_checkpoint
from models.preprocess import preprocess
from models.schema import load_yaml
from trainer.config import TrainConfig
from trainer.data.examples import prepare
from trainer.training.loop import fit

PARITY = 1e-4
"""Float32 of ONNX Runtime against torch's, relative to logits of about 1."""
ACCURACY = 0.9
"""Three tones, each in a bin of its own; by chance it would be a third."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train on three tones, from a YAML that asks for spectrograms; return the checkpoint."""
    folder = tmp_path_factory.mktemp("spectrogram")
    modalities = (SPECTRUM, msgspec.structs.replace(IMAGE, feature_size=SPECTRUM.feature_size))
    path = folder / "run.yaml"
    wanted = run_config(folder / "run", modalities=modalities, epochs=8, examples_per_epoch=192)
    path.write_bytes(msgspec.yaml.encode(wanted))
    run = load_yaml(path, TrainConfig)
    assert run.modalities == modalities
    checkpoint, _ = fit(run, Tones(), "", Silent(), resume=False)
    return read_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    path, _ = export_bundle(trained, Release(name="tones", version=1, command=""), tmp_path_factory.mktemp("bundle"))
    return open_bundle(path)


def test_the_branch_learns_to_tell_tones_apart(trained):
    examples = list(Tones().validation_examples())
    inputs, labels = prepare(examples, trained.header.spec)
    with torch.no_grad():
        logits = trained.network.branches["iq"](torch.from_numpy(inputs["iq"]))[1]
    assert np.mean(logits.argmax(1).numpy() == labels) > ACCURACY


def test_the_bundle_carries_the_recipe_and_answers_as_torch_did(bundle):
    assert bundle.spec.modality("iq").recipe == SPECTRUM.recipe
    assert check_golden(bundle, load_engines(bundle)) < GOLDEN_TOLERANCE


def test_a_window_in_flight_gets_the_answer_of_the_network_that_was_trained(trained, bundle):
    stream = StreamConfig(modality="iq", endpoint="ipc:///tmp/unused", rate_hz=10.0)
    branch = Branch(bundle.spec.modality("iq"), load_engines(bundle).branches["iq"], VirtualClock(), stream)
    phase = 2 * math.pi * 0.2 * np.arange(100)
    samples = (1000 * np.stack((np.cos(phase), np.sin(phase)), axis=1)).astype(np.int16)
    message = decode_message(encode_array(Kind.IQ, Stamp(1, 1, 0, 0, 0, 0, 1000.0), samples))
    admitted = branch.admit(message)
    assert isinstance(admitted[0], Header)
    found = branch.process(Arrival(stream="radio", header=admitted[0], payload=admitted[1], arrived_ns=0))
    assert isinstance(found, Feature)

    inputs = np.empty((1, *SPECTRUM.recipe.input_shape), np.float32)
    preprocess(samples[-64:], SPECTRUM.recipe, inputs[0])
    with torch.no_grad():
        feature, logits = trained.network.branches["iq"](torch.from_numpy(inputs))
    np.testing.assert_allclose(found.vector, feature[0].numpy(), atol=PARITY)
    np.testing.assert_allclose(found.logits, logits[0].numpy(), atol=PARITY)
    assert found.logits.argmax() == 1
