"""The pipeline as a competent person would write it in an afternoon, without a thought of latency: a rival to measure.

One process, one thread, one asyncio loop; ZeroMQ with its default queues, first in, first out; NumPy in single
precision, of I/Q only the window that is inferred, of frames the resized picture, with fresh arrays at each step;
OpenCV and ONNX Runtime with their default options. It answers the same messages with the same model and publishes the
same answers, so that the same benchmark can listen to both: that is what most of its lines are for.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import zmq
import zmq.asyncio

from edge.transport.messages import Classification, Kind, ModalityAnswer, PipelineStatus, StreamAccounting, pack
from edge.transport.wire import Header, Stamp, as_array, decode_message, encode_bytes
from models.bundle import open_bundle, shipped_bundle
from models.spec import IqRecipe

STATUS_PERIOD_S = 0.5
RESIZES = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
"""OpenCV advises area averaging to shrink pictures, and it gives the model what it was trained on. Linear, the default
of `cv2.resize`, takes a thirtieth of the time and looks at one pixel in thirty."""


class Naive:
    """Infers whatever comes, in the order in which it comes."""

    def __init__(self, bundle_path: Path, results: str, resize: str) -> None:
        self.resize = RESIZES[resize]
        bundle = open_bundle(bundle_path)
        self.spec = bundle.spec
        self.title = bundle.manifest.title
        self.sessions = {
            role: onnxruntime.InferenceSession(bundle.graph(role)) for role in (*bundle.spec.modality_names, "fusion")
        }
        self.context = zmq.asyncio.Context()
        self.publisher = self.context.socket(zmq.PUB)
        self.publisher.bind(results)
        self.newest: dict[str, tuple[Any, Any, int]] = {}
        self.received = dict.fromkeys(bundle.spec.modality_names, 0)
        self.sequence = 0

    async def serve(self, name: str, endpoint: str) -> None:
        """Answer one stream for ever."""
        socket = self.context.socket(zmq.SUB)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)
        while True:
            parts = await socket.recv_multipart()
            arrived_ns = time.monotonic_ns()
            self.received[name] += 1
            header, payload = decode_message(parts)
            await self.answer(name, header, payload, arrived_ns)

    async def answer(self, name: str, header: Header, payload: bytes, arrived_ns: int) -> None:
        """Infer one message, fuse it with the newest of the other modality, and publish."""
        recipe = self.spec.modality(name).recipe
        if isinstance(recipe, IqRecipe):
            data = newest_window(as_array(header, payload), recipe.window_samples)
            capture_ns = header.capture_ns + int((header.dim0 - recipe.window_samples) * 1e9 / recipe.sample_rate_hz)
        else:
            data = planes(header, payload, recipe, self.resize)
            capture_ns = header.capture_ns
        prepared_ns = time.monotonic_ns()
        feature, logits = self.sessions[name].run(["feature", "logits"], {"input": data[np.newaxis]})
        self.newest[name] = (feature, logits, capture_ns)
        inferred_ns = time.monotonic_ns()
        probs, weights = self.fuse(name)
        now_ns = time.monotonic_ns()
        stages = {
            "transport": arrived_ns - header.send_ns,
            "queue": 0,
            "preprocess": prepared_ns - arrived_ns,
            "infer": inferred_ns - prepared_ns,
            "fuse": now_ns - inferred_ns,
            "total": now_ns - header.send_ns,
        }
        class_id = int(np.argmax(probs))
        self.sequence += 1
        made = Classification(
            sequence=self.sequence,
            capture_ns=capture_ns,
            answer_ns=now_ns,
            class_id=class_id,
            label=self.spec.classes[class_id],
            confidence=float(probs[class_id]),
            probs=tuple(float(value) for value in probs),
            modalities=tuple(
                ModalityAnswer(name=one, mask=1.0, weight=float(weights[n]), capture_ns=self.newest[one][2])
                if one in self.newest
                else ModalityAnswer(name=one, mask=0.0, reason="no_stream")
                for n, one in enumerate(self.spec.modality_names)
            ),
            latency_ms={stage: value / 1e6 for stage, value in stages.items()},
        )
        await self.send(Kind.CLASSIFICATION, pack(made))

    def fuse(self, name: str) -> tuple[Any, Any]:
        """Return probabilities and weights."""
        feeds: dict[str, Any] = {
            "mask": np.array([[one in self.newest for one in self.spec.modality_names]], np.float32)
        }
        for modality in self.spec.modalities:
            absent = np.zeros((1, modality.feature_size), np.float32), np.zeros((1, len(self.spec.classes)), np.float32)
            feature, logits = self.newest.get(modality.name, (*absent, 0))[:2]
            feeds |= {f"feature_{modality.name}": feature, f"logits_{modality.name}": logits}
        logits, weights = self.sessions["fusion"].run(["logits", "weights"], feeds)
        powers = np.exp(logits[0].astype(np.float64) - logits[0].max())
        return powers / powers.sum(), weights[0]

    async def tell(self) -> None:
        """Publish the counts now and then."""
        while True:
            streams = {
                name: StreamAccounting(
                    received=count,
                    processed=count,
                    superseded=0,
                    dropped_late=0,
                    rejected={},
                    in_flight=0,
                    lost_transport=0,
                    state="live",
                )
                for name, count in self.received.items()
            }
            status = PipelineStatus(
                time_ns=time.monotonic_ns(),
                results=self.sequence,
                streams=streams,
                model=self.title,
                bundle_sha256="",
                labels=self.spec.classes,
            )
            await self.send(Kind.STATUS, pack(status))
            await asyncio.sleep(STATUS_PERIOD_S)

    async def send(self, kind: Kind, payload: bytes) -> None:
        """Publish a message."""
        now_ns = time.monotonic_ns()
        await self.publisher.send_multipart(encode_bytes(kind, Stamp(0, 1, self.sequence, now_ns, now_ns), payload))


def newest_window(samples: Any, window: int) -> Any:
    """Return the last window of a message as I and Q planes, without DC and of unit power."""
    pairs = samples[-window:].astype(np.float32)
    signal = pairs[:, 0] + 1j * pairs[:, 1]
    signal = signal - signal.mean()
    signal = signal / np.sqrt(np.mean(np.abs(signal) ** 2))
    return np.stack([signal.real, signal.imag])


def planes(header: Header, payload: bytes, recipe: Any, resize: int) -> Any:
    """Return a frame as normalised RGB planes."""
    if header.kind == Kind.FRAME:
        frame = as_array(header, payload)
    else:
        frame = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(frame, (recipe.width_px, recipe.height_px), interpolation=resize)
    rgb = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32) / 255.0
    normalised = (rgb - np.array(recipe.mean, np.float32)) / np.array(recipe.std, np.float32)
    return normalised.transpose(2, 0, 1)


async def serve(bundle: Path, results: str, resize: str, streams: dict[str, str]) -> None:
    """Answer every stream for ever."""
    naive = Naive(bundle, results, resize)
    await asyncio.gather(naive.tell(), *(naive.serve(name, endpoint) for name, endpoint in streams.items()))


if __name__ == "__main__":
    path, results_endpoint, resize_name, *pairs = sys.argv[1:]
    asyncio.run(
        serve(
            Path(path) if path != "-" else shipped_bundle(),
            results_endpoint,
            resize_name,
            dict(pair.split("=", 1) for pair in pairs),
        )
    )
