"""A deployment's camera and radio radius: what they may be, and what they say."""

import math
from pathlib import Path
from typing import Any

import pytest
from mavlink_samples import camera

from edge.config import MavlinkConfig, load_flight
from models.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"field_of_view_deg": None}, "expected field_of_view_deg, or focal_px and centre_px"),
        ({"focal_px": (500.0, 500.0), "centre_px": (320.0, 240.0)}, "and not both"),
        ({"field_of_view_deg": None, "focal_px": (500.0, 500.0)}, "expected field_of_view_deg, or focal_px"),
        ({"field_of_view_deg": 180.0}, "field_of_view_deg is 180.0"),
        ({"field_of_view_deg": math.nan}, "field_of_view_deg is nan"),
        ({"field_of_view_deg": None, "focal_px": (0.0, 500.0), "centre_px": (1.0, 1.0)}, "focal_px is"),
        ({"size_px": (0, 480)}, "size_px is"),
        ({"mount_deg": (0.0, math.nan, 0.0)}, "expected finite numbers"),
        ({"ground_altitude_m": 10_000.0}, "ground_altitude_m: expected -500 to 9000"),
        ({"target_spread_deg": -1.0}, "target_spread_deg: expected 0 to 90"),
        ({"attitude_error_deg": math.nan}, "errors: expected 0 to 1000"),
        ({"time_error_ms": -1.0}, "errors: expected 0 to 1000"),
        ({"gimbal": True, "gimbal_device": 256}, "gimbal_device is 256: expected 1 to 255"),
        ({"gimbal_device": 154}, "expected with gimbal: true alone"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        camera(**changes)


@pytest.mark.parametrize("radius_m", [0.0, -1.0, math.nan, 7000.0])
def test_a_radius_that_no_message_holds_is_refused(radius_m: float) -> None:
    with pytest.raises(ValueError, match="radio_radius_m"):
        MavlinkConfig(links=("udpin:127.0.0.1:14550",), radio_radius_m=radius_m)


def test_a_calibrated_camera_sees_its_images_centre_beside_its_axis() -> None:
    calibrated = camera(field_of_view_deg=None, focal_px=(500.0, 500.0), centre_px=(320.0, 190.0))

    assert calibrated.camera().ray == pytest.approx((1.0, 0.0, 0.1))
    assert math.degrees(calibrated.horizontal_rad) == pytest.approx(2 * math.degrees(math.atan(320 / 500)))


DEPLOYMENT = """
bundle: none.uavb
results: ipc:///tmp/unused-results
streams:
  front: {modality: image, endpoint: "ipc:///tmp/unused-camera", rate_hz: 30}
mavlink:
  links: ["udpin:127.0.0.1:14550"]
  radio_radius_m: 800
  camera: {stream: STREAM, size_px: [640, 480], field_of_view_deg: 60, mount_deg: [0, -90, 0]}
"""


def test_a_deployment_names_its_camera(tmp_path: Path) -> None:
    path = tmp_path / "flight.yaml"
    path.write_text(DEPLOYMENT.replace("STREAM", "front"))
    mavlink = load_flight(path).mavlink

    assert mavlink is not None
    assert mavlink.camera == camera(mount_deg=(0.0, -90.0, 0.0))
    assert mavlink.radio_radius_m == 800


def test_a_camera_of_an_unknown_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flight.yaml"
    path.write_text(DEPLOYMENT.replace("STREAM", "rear"))

    with pytest.raises(ConfigError, match=r"camera.stream is rear: expected one of \['front'\]"):
        load_flight(path)
