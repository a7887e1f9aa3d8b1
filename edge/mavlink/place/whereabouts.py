"""When and where an answer was made: completes reports with the time of the vehicle and the place of the thing."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edge.mavlink.geometry.camera import CameraConfig
from edge.mavlink.geometry.georeference import GroundPoint, ground_point
from edge.mavlink.geometry.pose import Place, Track
from edge.mavlink.network.link import Received
from edge.mavlink.place.autopilot import CaptureTime
from edge.mavlink.place.autopilots import Autopilots
from edge.mavlink.place.hearing import Hearing
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import ClassificationReport, Flag, Position
from edge.transport.messages import Classification, ModalityAnswer, Pose

NS_PER_US, NS_PER_S = 1_000, 1_000_000_000
RADIO, IMAGE = "iq", "image"
SYNCED_S, UNSYNCED_S = 0.005, 0.05
"""How far the time of a reading may be off, one standard deviation: by the autopilot's clock, and by its arrival."""
SPREAD_OF_ROUND_TRIP = 4
"""An offset lies within half of a round trip to both sides; a standard deviation is a quarter."""
SAME_FLIGHT_DEG = 0.01
"""An autopilot so far from a recording's poses, some km, is another one than flew then."""


class _Source(NamedTuple):
    """Who tells of the vehicle's motion."""

    track: Track
    time_s: float
    """How far its times may be off."""
    position_m: float
    """How far its position may be off, by what it says of that; 0 where it says nothing, infinite without a fix."""


class Whereabouts:
    """Keeps what tells time and place: the autopilots, and the poses of the deployment's `pose` endpoint.

    Args:
        system_id: ours.
        camera: whose images are placed on the ground, if any are.
        radio_radius_m: how far from the vehicle an emitter is that the radio alone classified, if anybody can say.
    """

    def __init__(self, system_id: int, camera: CameraConfig | None = None, radio_radius_m: float | None = None) -> None:
        self.autopilots = Autopilots(system_id, camera.gimbal_device if camera is not None else None)
        self.hearing = Hearing()
        self._config = camera
        self._camera = camera.camera() if camera is not None else None
        self._radio_radius_m = radio_radius_m
        self._poses = Track()

    def on_pose(self, pose: Pose) -> None:
        """Take a pose of the vehicle."""
        self._poses.add_pose(pose)

    def on_received(self, link: int, items: Sequence[Received], now_ns: int) -> None:
        """Take what a link received."""
        for item in items:
            self.autopilots.on_received(link, item, now_ns)
            self.hearing.on_received(link, item, self.autopilots, now_ns)

    def time_of(self, at_ns: int, now_ns: int) -> CaptureTime:
        """Return a moment of our clock as UTC; else as the autopilot's time; else as it stands."""
        autopilot = self.autopilots.timekeeper(now_ns)
        told = autopilot.time_of(at_ns, now_ns) if autopilot is not None else None
        return told if told is not None else CaptureTime(at_ns // NS_PER_US, False)

    def clock_offset_us(self, now_ns: int) -> int | None:
        """Return the autopilot's time minus ours, None where it is not known."""
        autopilot = self.autopilots.timekeeper(now_ns)
        offset_ns = autopilot.clock.offset_at(now_ns) if autopilot is not None else None
        return offset_ns // NS_PER_US if offset_ns is not None else None

    def complete(self, report: ClassificationReport, answer: Classification, now_ns: int) -> ClassificationReport:
        """Return a report with the time and the place that are known."""
        told = self.time_of(answer.capture_ns, now_ns)
        flags = report.flags & ~Flag.TIME_UNSYNCED if told.is_synced else report.flags
        report = msgspec.structs.replace(report, time_us=told.time_us, flags=flags)
        sources = self._sources(answer, now_ns, is_replay=Flag.REPLAY in flags)
        point = self._point(answer, sources)
        if point is not None:
            place = Position(point.latitude_deg, point.longitude_deg, point.altitude_m)
            return codec.placed(report, place, point.h_acc_m)
        position = _vehicle(answer, sources) or report.position
        is_radio_alone = [modality.name for modality in answer.modalities if modality.mask > 0] == [RADIO]
        radius_m = self._radio_radius_m if is_radio_alone and position is not None else None
        return msgspec.structs.replace(report, position=position, h_acc_m=radius_m)

    def _point(self, answer: Classification, sources: Sequence[_Source]) -> GroundPoint | None:
        """Return where the camera looked when it took the frame of an answer, None where it is not known."""
        config = self._config
        frame = _frame(answer, config.stream) if config is not None else None
        if config is None or self._camera is None or frame is None:
            return None
        for track, time_s, position_m in sources:
            view = track.at(frame.capture_ns, has_gimbal=config.gimbal) if math.isfinite(position_m) else None
            if view is not None:
                return ground_point(self._camera, view, config.errors(time_s, position_m))
        return None

    def _sources(self, answer: Classification, now_ns: int, *, is_replay: bool) -> list[_Source]:
        """Return who tells of the vehicle's motion, the best first.

        What was recorded is not placed by an autopilot that is somewhere else today.
        """
        sources = []
        for autopilot in self.autopilots.all_ours(now_ns):
            rtt_s = autopilot.clock.rtt_ns / NS_PER_S
            is_locked = autopilot.clock.is_locked_at(now_ns)
            time_s = max(SYNCED_S, rtt_s / SPREAD_OF_ROUND_TRIP) if is_locked else UNSYNCED_S
            sources.append(_Source(autopilot.track, time_s, autopilot.position_error_m(now_ns)))
        told = self._poses.places.at(answer.capture_ns) if is_replay else None
        if told is not None:
            sources = [source for source in sources if _is_near(source.track, answer.capture_ns, told.value)]
        return [*sources, _Source(self._poses, SYNCED_S, 0.0)]


def _is_near(track: Track, at_ns: int, place: Place) -> bool:
    found = track.places.at(at_ns)
    if found is None:
        return False
    across_deg = (found.value.longitude_deg - place.longitude_deg + 180) % 360 - 180
    across_deg *= math.cos(math.radians(place.latitude_deg))
    return math.hypot(found.value.latitude_deg - place.latitude_deg, across_deg) < SAME_FLIGHT_DEG


def _vehicle(answer: Classification, sources: Sequence[_Source]) -> Position | None:
    """Return where the vehicle was when an answer's newest input was captured."""
    for source in sources:
        found = source.track.places.at(answer.capture_ns)
        if found is not None:
            place: Place = found.value
            return Position(place.latitude_deg, place.longitude_deg, place.altitude_m)
    return None


def _frame(answer: Classification, stream: str) -> ModalityAnswer | None:
    """Return what the camera brought into an answer, None where it brought nothing."""
    for modality in answer.modalities:
        if modality.mask > 0 and modality.name == IMAGE and modality.stream == stream:
            return modality
    return None
