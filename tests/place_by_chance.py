"""Thousands of flights with wrong sensors; run as a program it prints how often the truth lay within what was claimed.

In each flight position, height, attitude, heading, aim and clock are wrong by chance, as far as a deployment's camera
says by default. A clock that is off shows the vehicle where it was, and turned as it was, at another moment.
"""

import argparse
import json
import math
import random
from dataclasses import dataclass, replace

from edge.mavlink.geometry import rotation
from edge.mavlink.geometry.camera import CameraConfig
from edge.mavlink.geometry.georeference import Errors, GroundPoint, ground_point, radii_m
from edge.mavlink.geometry.pose import Place, View
from edge.mavlink.geometry.rotation import Vector

GROUND_M = 400.0
HOME_DEG = (47.0, 8.0)
STILL = Vector(0.0, 0.0, 0.0)
SURE = Errors(position_m=0.0, height_m=0.0, attitude_rad=0.0, heading_rad=0.0, time_s=0.0, aim_rad=0.0)
TIME_S = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A flight, and which way its camera looks."""

    depression_deg: float = 90.0
    height_m: float = 100.0
    speed_m_s: float = 0.0
    turn_deg_s: float = 0.0
    """About the vertical, clockwise."""
    aim_deg: float = 0.0
    """How far from the image's centre the thing is, one standard deviation."""


SCENES = {
    "straight down": Scene(),
    "30 degrees from it": Scene(depression_deg=60.0),
    "45 degrees": Scene(depression_deg=45.0),
    "70 degrees": Scene(depression_deg=20.0),
    "80 degrees": Scene(depression_deg=10.0),
    "fast": Scene(depression_deg=45.0, speed_m_s=30.0),
    "fast and turning": Scene(depression_deg=45.0, speed_m_s=25.0, turn_deg_s=60.0),
    "turning at 70 degrees": Scene(depression_deg=20.0, speed_m_s=15.0, turn_deg_s=45.0),
    "low": Scene(depression_deg=60.0, height_m=20.0),
    "high": Scene(depression_deg=40.0, height_m=400.0),
    "anywhere in a narrow image": Scene(depression_deg=60.0, aim_deg=4.0),
}


def offset_m(point: GroundPoint, view: View) -> tuple[float, float]:
    """Return how far north and east of the vehicle a point is, by the radii at the ground."""
    north_m, east_m = radii_m(view.place.latitude_deg)
    north = math.radians(point.latitude_deg - view.place.latitude_deg) * (north_m + point.altitude_m)
    across_deg = (point.longitude_deg - view.place.longitude_deg + 180) % 360 - 180
    middle = math.radians((point.latitude_deg + view.place.latitude_deg) / 2)
    return north, math.radians(across_deg) * (east_m + point.altitude_m) * math.cos(middle)


def coverage(scene: Scene, *, flights: int = 4_000, seed: int = 7, errors: Errors | None = None) -> float:
    """Return the share of flights in which the truth lies within the claimed radius of the claimed place.

    Args:
        scene: what is flown.
        flights: how often.
        seed: same seed, same errors.
        errors: that are claimed; by default those that are made.
    """
    draw = random.Random(seed)
    made = CameraConfig(
        stream="front", size_px=(640, 480), field_of_view_deg=60.0, mount_deg=(0.0, -scene.depression_deg, 0.0),
        ground_altitude_m=GROUND_M, target_spread_deg=scene.aim_deg,
    )  # fmt: skip
    return sum(_is_held(scene, made, errors, draw) for _ in range(flights)) / flights


def _is_held(scene: Scene, config: CameraConfig, claimed: Errors | None, draw: random.Random) -> bool:
    made = config.errors(TIME_S)
    camera, truth = config.camera(), _truth(scene, draw.uniform(0, 360))
    beside = rotation.of_turn(Vector(*(made.aim_rad * draw.gauss(0, 1) for _ in range(3))))
    seen = replace(camera, ray=camera.mount.inverse().turn(beside.turn(camera.mount.turn(camera.ray))))
    thing = ground_point(seen, truth, SURE)
    told = ground_point(camera, _measured(truth, made, draw), claimed or made)
    assert thing is not None
    assert told is not None
    return math.dist(offset_m(thing, truth), offset_m(told, truth)) <= told.h_acc_m


def _truth(scene: Scene, heading_deg: float) -> View:
    heading = math.radians(heading_deg)
    return View(
        place=Place(*HOME_DEG, GROUND_M + scene.height_m, None),
        rotation=rotation.of_angles(0.0, 0.0, heading),
        north_m_s=scene.speed_m_s * math.cos(heading),
        east_m_s=scene.speed_m_s * math.sin(heading),
        turn_rad_s=Vector(0.0, 0.0, math.radians(scene.turn_deg_s)),
    )


def _measured(truth: View, errors: Errors, draw: random.Random) -> View:
    """Return what a vehicle's sensors say: each wrong by chance, position and attitude of another moment."""
    late_s = draw.gauss(0, errors.time_s)
    north_m = draw.gauss(0, errors.position_m) + late_s * truth.north_m_s
    east_m = draw.gauss(0, errors.position_m) + late_s * truth.east_m_s
    north_radius_m, east_radius_m = radii_m(truth.place.latitude_deg)
    about = Vector(*(draw.gauss(0, errors.attitude_rad) for _ in range(3)))
    about = about._replace(z=about.z + draw.gauss(0, errors.heading_rad))
    turned = rotation.of_turn(Vector(*(late_s * part for part in truth.turn_rad_s)))
    across = math.cos(math.radians(truth.place.latitude_deg))
    return replace(
        truth,
        place=Place(
            truth.place.latitude_deg + math.degrees(north_m / north_radius_m),
            truth.place.longitude_deg + math.degrees(east_m / east_radius_m / across),
            truth.place.altitude_m + draw.gauss(0, errors.height_m),
            None,
        ),
        rotation=rotation.of_turn(about).after(turned).after(truth.rotation),
    )


def main() -> None:
    """Print the share of each scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flights", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    for name, scene in SCENES.items():
        share = coverage(scene, flights=chosen.flights, seed=chosen.seed)
        print(json.dumps({"scene": name, "within": round(share, 4), "flights": chosen.flights}))


if __name__ == "__main__":
    main()
