"""The pipeline in flight: a receiver thread per stream, an engine thread per modality, and one that watches the clock.

A receiver that has the time infers by itself (`edge/pipeline/lane.py`), which spares a hand-over between threads.
Python runs one thread at a time, but receiving, inference and image work release the lock. Everything that would keep
Python busy (MAVLink, recording, web) lives in other processes, fed by the results publisher.
"""

import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from edge.backends.onnx import load_engines
from edge.backends.planned import PlanChoice, opener, plans_of_this_machine
from edge.backends.select import precisions_text
from edge.backends.swap import HotSwap, Opener
from edge.clock import Clock, SystemClock
from edge.config import FlightConfig, check_modalities
from edge.pipeline.answer import FusionHead
from edge.pipeline.branch import Branch
from edge.pipeline.lane import Lane
from edge.pipeline.news import News
from edge.pipeline.receiver import RECEIVE_TIMEOUT_MS, Received, Receiver
from edge.pipeline.scheduler import Arrival, Pairing, Scheduler
from edge.pipeline.shedding import open_shedder
from edge.pipeline.tracing import Tracer
from edge.transport.inbox import open_inbox
from edge.transport.messages import Injected, Kind, PipelineStatus, Pose, Trace, pack, unpack
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import FLAG_REPLAY, Reason, Stamp, decode_message, encode_bytes
from models.bundle import Bundle
from models.errors import InputError

log = logging.getLogger(__name__)

TICK_S = 0.02
STATUS_PERIOD_NS = 1_000_000_000
SWITCH_INTERVAL_S = 0.0005
"""Beside a busy Python thread the default of 5 ms made the radio path 18 times slower."""


class LivePipeline:
    """Receives streams, publishes answers and status until it is stopped."""

    def __init__(
        self,
        config: FlightConfig,
        bundle: Bundle,
        clock: Clock | None = None,
        open_accelerator: Opener | None = None,
        heat: Callable[[], str] = lambda: "",
    ) -> None:
        """Load the engines.

        Args:
            config: the deployment.
            bundle: the model.
            clock: by default the system's.
            open_accelerator: makes an accelerator ready; by default TensorRT with the deployment's plans.
            heat: asked once a second; says what slows the board down, in words, or nothing.
        """
        check_modalities(config.streams, config.pipeline, bundle.spec.modality_names)
        self._clock = clock or SystemClock()
        self._config = config
        self._bundle = bundle
        self._open_accelerator = open_accelerator or _tensorrt(config, bundle)
        self._swap = HotSwap(bundle, load_engines(bundle, config.pipeline.precision))
        engines = self._swap.engines
        self._head = FusionHead(bundle.manifest, engines.fusion, self._clock, config.pipeline.max_age_ms)
        self._branches = {
            name: Branch(bundle.spec.modality(stream.modality), engines.branches[stream.modality], self._clock, stream)
            for name, stream in config.streams.items()
        }
        start_ns, spec = self._clock.now_ns(), bundle.spec
        shedder = open_shedder(spec.modalities, config.streams, config.pipeline, start_ns)
        self._scheduler = Scheduler(spec.modality_names, config.streams, config.pipeline, start_ns, shedder)
        self._tracer = Tracer(start_ns)
        self._heat = heat
        self.injected: Callable[[], Injected] = Injected
        """Asked once a second for the faults that are injected into this flight; set it before `start`."""
        self._lock = threading.Lock()
        modalities = [stream.modality for stream in config.streams.values()]
        self._lanes = {
            name: Lane(partial(self._take, name), self._infer, self._clock, modalities.count(name))
            for name in sorted(set(modalities))
        }
        self._publishing = threading.Lock()
        self._publisher = Publisher(config.results)
        self._epoch = self._clock.now_ns() & 0xFFFFFFFF
        self._published = 0
        self._last: Pairing | None = None
        """What the last answer was made of."""
        self._stopping = threading.Event()
        self._draining = threading.Event()
        self._receivers: list[threading.Thread] = []
        self._workers: list[threading.Thread] = []
        self._final: PipelineStatus | None = None

    def start(self) -> None:
        """Connect to the streams and start the threads; an accelerator takes over in flight, when it is ready.

        Raises:
            OnboardError: the deployment insists on TensorRT, and it is not to be had.
        """
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        if self._config.pipeline.backend == "tensorrt" and self._open_accelerator is not None:
            self._swap.load(self._open_accelerator)
        for name, stream in self._config.streams.items():
            receiver = Receiver(name, stream, self._lanes[stream.modality], self._offer, self._clock)
            inbox, practise = open_inbox(stream), partial(self._practise, name)
            self._receivers.append(_thread(f"receive-{name}", receiver.run, inbox, self._draining, practise))
        if self._config.pose is not None:
            self._receivers.append(_thread("receive-pose", self._receive_poses, Subscriber(self._config.pose)))
        self._workers = [_thread(f"engine-{name}", lane.work) for name, lane in self._lanes.items()]
        self._workers.append(_thread("watch", self._watch))
        for thread in (*self._receivers, *self._workers):
            thread.start()
        title, flying = self._bundle.manifest.title, self._swap.flying
        graphs = f"{precisions_text(flying.precisions)} on {flying.backend}"
        log.info("%s is flying: %s; graphs: %s", title, ", ".join(self._config.streams), graphs)
        if self._config.pipeline.backend == "auto" and self._open_accelerator is not None:
            self._swap.load_in_background(self._open_accelerator)

    def stop(self) -> PipelineStatus:
        """Stop receiving, answer what is in flight, publish the last status and return it; again: just return it."""
        if self._final is not None:
            return self._final
        self._draining.set()
        for thread in self._receivers:
            thread.join()
        self._stopping.set()
        for lane in self._lanes.values():
            lane.stop()
        for thread in self._workers:
            thread.join()
        self._publish_trace()
        self._final = msgspec.structs.replace(self.status(), is_last=True)
        self._publish(Kind.STATUS, self._final)  # a GPU that hangs keeps `close` for longer than a supervisor may wait
        self._swap.close()
        self._publisher.close()
        return self._final

    def status(self) -> PipelineStatus:
        """Return health and accounting as they stand."""
        now_ns = self._clock.now_ns()
        with self._lock:
            streams = self._scheduler.accounting(now_ns)
            load = self._scheduler.load
        flying = self._swap.flying
        return PipelineStatus(
            time_ns=now_ns,
            results=self._head.answers,
            streams=streams,
            model=self._bundle.manifest.title,
            bundle_sha256=self._bundle.sha256,
            labels=self._bundle.spec.classes,
            precisions=dict(flying.precisions),
            backend=flying.backend,
            backend_reason=flying.reason,
            load=load,
            injected=self.injected(),
            is_last=False,
        )

    def _offer(self, stream: str, received: Received) -> None:
        """Account for a message that came, or for what came instead."""
        now_ns = self._clock.now_ns()
        message = self._branches[stream].admit(received)
        with self._lock:
            self._scheduler.receive(stream, message, now_ns)

    def _practise(self, stream: str) -> None:
        """Compute what the stream's last message made the pipeline compute, to no effect; not while load is shed."""
        with self._lock:
            if self._scheduler.load.level:
                return
        self._branches[stream].rehearse()
        if self._last is None or not self._publishing.acquire(blocking=False):
            return
        try:
            self._head.rehearse(self._last)
        finally:
            self._publishing.release()

    def _receive_poses(self, subscriber: Subscriber) -> None:
        with subscriber:
            while not self._draining.is_set():
                parts = subscriber.receive(RECEIVE_TIMEOUT_MS)
                message = decode_message(parts) if parts is not None else None
                if message is None or isinstance(message, Reason) or message[0].kind != Kind.POSE:
                    continue
                try:
                    self._head.pose = unpack(message[1], Pose)
                except InputError as error:
                    log.debug("pose refused: %s", error)

    def _take(self, modality: str) -> Arrival | None:
        with self._lock:
            return self._scheduler.take(modality, self._clock.now_ns())

    def _infer(self, arrival: Arrival) -> None:
        """Take a message to its feature, and answer where its modality paces the answers."""
        outcome = self._branches[arrival.stream].process(arrival)
        with self._publishing:  # from the decision to the socket: answers leave in the order of decisions
            with self._lock:
                now_ns = self._clock.now_ns()
                pairing = self._scheduler.complete(arrival.stream, outcome, now_ns)
                self._tracer.note(arrival, now_ns)
            if pairing is not None:
                self._answer(pairing, arrival.header.flags & FLAG_REPLAY)

    def _watch(self) -> None:
        """Say NO_DATA when it is so; publish status once a second, and at once where there is news."""
        news = News()
        status_due_ns = self._clock.now_ns()
        while not self._stopping.wait(TICK_S):
            now_ns = self._clock.now_ns()
            with self._publishing:
                with self._lock:
                    pairing = self._scheduler.tick(now_ns)
                    is_news = news.is_due(self._scheduler.states(now_ns), self._scheduler.load, now_ns)
                if pairing is not None:
                    self._answer(pairing)
            if now_ns >= status_due_ns:
                status_due_ns = now_ns + STATUS_PERIOD_NS
                heat = self._heat()
                with self._lock:
                    self._scheduler.note_heat(heat)
                self._publish_trace()
            elif not is_news:
                continue
            status = self.status()
            self._publish(Kind.STATUS, status)
            news.note_told({name: stream.state for name, stream in status.streams.items()}, status.load, now_ns)

    def _answer(self, pairing: Pairing, flags: int = 0) -> None:
        """Publish an answer, with the publishing lock held; one that a recording caused says so in its header."""
        answer = self._head.answer(pairing)
        self._last = pairing
        if answer is not None:
            self._send(Kind.CLASSIFICATION, pack(answer), answer.capture_ns, flags)

    def _publish_trace(self) -> None:
        with self._lock:
            trace = self._tracer.collect(self._clock.now_ns())
        self._publish(Kind.TRACE, trace)

    def _publish(self, kind: Kind, status: PipelineStatus | Trace) -> None:
        with self._publishing:
            self._send(kind, pack(status), status.time_ns)

    def _send(self, kind: Kind, payload: bytes, capture_ns: int, flags: int = 0) -> None:
        stamp = Stamp(0, self._epoch, self._published, capture_ns, self._clock.now_ns(), flags)
        self._published += 1
        self._publisher.send(encode_bytes(kind, stamp, payload))


def _tensorrt(config: FlightConfig, bundle: Bundle) -> Opener | None:
    """Return what loads the deployment's plans into this machine's GPU; None where it names none."""
    if config.plans is None:
        return None
    options = Path(config.plan_options) if config.plan_options is not None else None
    folder, precision = Path(config.plans), config.pipeline.precision
    choice = PlanChoice(bundle=bundle, precision=precision, folder=folder, options=options)
    return opener(partial(plans_of_this_machine, choice))


def _thread(name: str, target: Callable[..., None], *args: object) -> threading.Thread:
    return threading.Thread(target=target, name=name, args=args, daemon=True)
