"""The camera whose images are placed on the ground: what a deployment's YAML says of it, under `mavlink.camera`."""

import math

import msgspec

from edge.mavlink.geometry import rotation
from edge.mavlink.geometry.georeference import Camera, Errors, pixel_ray


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a camera sees and is mounted, and how far all that may be wrong. See docs/mavlink.md."""

    stream: str
    """Name of the stream that carries its frames."""
    size_px: tuple[int, int]
    """Width and height of its frames, as calibrated."""
    field_of_view_deg: float | None = None
    """From left to right, of a camera with square pixels and its axis in the middle; or else focal_px and centre_px."""
    focal_px: tuple[float, float] | None = None
    """Focal lengths to the right and down, by calibration."""
    centre_px: tuple[float, float] | None = None
    """Where the optical axis meets the image, from the upper left, by calibration."""
    mount_deg: tuple[float, float, float]
    """Roll, pitch and yaw against vehicle or gimbal: [0, 0, 0] looks ahead, upright; [0, -90, 0] straight down."""
    gimbal: bool = False
    """Whether it hangs on the vehicle's gimbal (GIMBAL_DEVICE_ATTITUDE_STATUS)."""
    gimbal_device: int | None = None
    """Which of several: its component, or 1 to 6 as its autopilot counts them; without: the first one that is heard."""
    ground_altitude_m: float | None = None
    """Of the ground above mean sea level; without: as high as where the vehicle took off, which its autopilot tells."""
    target_spread_deg: float | None = None
    """How far from the image's centre the thing may be, one standard deviation; without: a quarter of its width.

    With 0, h_acc is that of the image's centre alone.
    """
    position_error_m: float = 1.5
    """One standard deviation of the vehicle's position, to the north and to the east each."""
    height_error_m: float = 3.0
    """The same of its height above the ground, terrain included."""
    attitude_error_deg: float = 1.0
    """The same about each axis, of vehicle, gimbal and mount together."""
    heading_error_deg: float = 2.0
    """The same about the vertical, in addition: what a compass is off."""
    time_error_ms: float = 20.0
    """The same of its frames' capture times against the middle of the exposure, see `delay_ms` of its source."""

    def __post_init__(self) -> None:
        _require(min(self.size_px) >= 1, f"size_px is {list(self.size_px)}: expected width and height, at least 1")
        one = "expected field_of_view_deg, or focal_px and centre_px, and not both"
        _require((self.focal_px is None) == (self.centre_px is None), one)
        _require((self.focal_px is None) != (self.field_of_view_deg is None), one)
        if self.field_of_view_deg is not None:
            text = f"field_of_view_deg is {self.field_of_view_deg}: expected above 0, below 180"
            _require(0 < self.field_of_view_deg < 180, text)
        if self.focal_px is not None:
            _require(min(self.focal_px) > 0, f"focal_px is {list(self.focal_px)}: expected above 0")
        angles = (*self.mount_deg, *(self.centre_px or ()), *(self.focal_px or ()))
        _require(all(map(math.isfinite, angles)), "mount_deg, focal_px, centre_px: expected finite numbers")
        device = self.gimbal_device
        _require(device is None or self.gimbal, "gimbal_device: expected with gimbal: true alone")
        _require(device is None or 1 <= device <= 255, f"gimbal_device is {device}: expected 1 to 255")
        ground_m = self.ground_altitude_m
        _require(ground_m is None or -500 <= ground_m <= 9000, "ground_altitude_m: expected -500 to 9000")
        spread_deg = self.target_spread_deg
        _require(spread_deg is None or 0 <= spread_deg <= 90, "target_spread_deg: expected 0 to 90")
        errors = (
            self.position_error_m,
            self.height_error_m,
            self.attitude_error_deg,
            self.heading_error_deg,
            self.time_error_ms,
        )
        _require(all(0 <= error <= 1000 for error in errors), "errors: expected 0 to 1000")

    @property
    def horizontal_rad(self) -> float:
        """The angle from left to right."""
        if self.field_of_view_deg is not None:
            return math.radians(self.field_of_view_deg)
        focal_px = self.focal_px[0] if self.focal_px is not None else 1.0
        return 2 * math.atan(self.size_px[0] / 2 / focal_px)

    def camera(self) -> Camera:
        """Return the camera as it sees the centre of its image."""
        width, height = self.size_px
        middle = (width / 2, height / 2)
        focal_px = self.focal_px
        if focal_px is None:
            focal = width / 2 / math.tan(self.horizontal_rad / 2)
            focal_px = (focal, focal)
        return Camera(
            ray=pixel_ray(middle, focal_px, self.centre_px or middle),
            mount=rotation.of_angles(*map(math.radians, self.mount_deg)),
            ground_altitude_m=self.ground_altitude_m,
        )

    def errors(self, time_s: float, position_m: float = 0.0) -> Errors:
        """Return how far the inputs may be wrong, where clocks and position may be off by so much, or more."""
        spread_deg = self.target_spread_deg
        return Errors(
            position_m=max(self.position_error_m, position_m),
            height_m=self.height_error_m,
            attitude_rad=math.radians(self.attitude_error_deg),
            heading_rad=math.radians(self.heading_error_deg),
            time_s=math.hypot(time_s, self.time_error_ms / 1000),
            aim_rad=self.horizontal_rad / 4 if spread_deg is None else math.radians(spread_deg),
        )


def _require(claim: bool, text: str) -> None:
    if not claim:
        raise ValueError(text)
