"""Rotations as unit quaternions (w, x, y, z), in plain Python: for a few vectors that takes a tenth of NumPy's time.

A rotation turns the axes of a body (forward, right, down) into those of its surroundings (north, east, down).
"""

import math
from typing import NamedTuple

_NEARLY_SAME = 1 - 1e-12


class Vector(NamedTuple):
    """Forward, right, down of a body; north, east, down of the ground."""

    x: float
    y: float
    z: float


class Rotation(NamedTuple):
    """A unit quaternion."""

    w: float
    x: float
    y: float
    z: float

    def after(self, first: "Rotation") -> "Rotation":
        """Return the rotation that does `first`, then this one."""
        w, x, y, z = first
        return Rotation(
            self.w * w - self.x * x - self.y * y - self.z * z,
            self.w * x + self.x * w + self.y * z - self.z * y,
            self.w * y - self.x * z + self.y * w + self.z * x,
            self.w * z + self.x * y - self.y * x + self.z * w,
        )

    def inverse(self) -> "Rotation":
        """Return the rotation back."""
        return Rotation(self.w, -self.x, -self.y, -self.z)

    def turn(self, vector: Vector) -> Vector:
        """Return the vector turned."""
        w, x, y, z = self
        a, b, c = vector
        s, t, u = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
        return Vector(a + w * s + y * u - z * t, b + w * t + z * s - x * u, c + w * u + x * t - y * s)

    @property
    def yaw_rad(self) -> float:
        """Heading of the forward axis, clockwise from north."""
        return math.atan2(2 * (self.w * self.z + self.x * self.y), 1 - 2 * (self.y * self.y + self.z * self.z))

    @property
    def angle_rad(self) -> float:
        """How far it turns, 0 to pi."""
        return 2 * math.atan2(math.sqrt(self.x**2 + self.y**2 + self.z**2), abs(self.w))

    @property
    def turn_rad(self) -> Vector:
        """The axis that it turns about, as long as the angle."""
        sine = math.sqrt(self.x**2 + self.y**2 + self.z**2)
        factor = math.copysign(self.angle_rad / sine if sine else 2.0, self.w)
        return Vector(factor * self.x, factor * self.y, factor * self.z)


STILL = Rotation(1.0, 0.0, 0.0, 0.0)


def of_angles(roll_rad: float, pitch_rad: float, yaw_rad: float) -> Rotation:
    """Return the rotation that autopilots write as roll, pitch and yaw: yaw first, then pitch, then roll."""
    cr, sr = math.cos(roll_rad / 2), math.sin(roll_rad / 2)
    cp, sp = math.cos(pitch_rad / 2), math.sin(pitch_rad / 2)
    cy, sy = math.cos(yaw_rad / 2), math.sin(yaw_rad / 2)
    return Rotation(
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    )


def of_turn(turn_rad: Vector) -> Rotation:
    """Return the rotation about an axis that is as long as the angle: what `Rotation.turn_rad` says."""
    angle = math.sqrt(sum(part * part for part in turn_rad))
    factor = math.sin(angle / 2) / angle if angle else 0.5
    return Rotation(math.cos(angle / 2), factor * turn_rad.x, factor * turn_rad.y, factor * turn_rad.z)


def normalised(w: float, x: float, y: float, z: float) -> Rotation | None:
    """Return the rotation that four numbers of a message mean, None where they mean none."""
    length = math.sqrt(w * w + x * x + y * y + z * z)
    if not math.isfinite(length) or not 0.5 < length < 2:
        return None
    return Rotation(w / length, x / length, y / length, z / length)


def between(start: Rotation, end: Rotation, share: float) -> Rotation:
    """Return what lies at `share` of the shorter way from one rotation to another; beyond 1 it goes on as fast."""
    cosine = sum(a * b for a, b in zip(start, end, strict=True))
    if cosine < 0:
        end, cosine = Rotation(*(-part for part in end)), -cosine
    if cosine > _NEARLY_SAME:
        return end
    half = math.acos(cosine)
    first, second = math.sin((1 - share) * half) / math.sin(half), math.sin(share * half) / math.sin(half)
    return Rotation(*(first * a + second * b for a, b in zip(start, end, strict=True)))
