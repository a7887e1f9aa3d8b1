"""How the ground stations of MAVSDK 4 begin, which run in processes of their own."""

import time
from typing import Any

from mavsdk.component_type import ComponentType
from mavsdk.mavsdk import Configuration, Mavsdk


def vehicle_on(link: str, patience_s: float) -> tuple[Mavsdk, Any]:
    """Return a ground station, which must be kept, and the one vehicle that it found on a link.

    Raises:
        ValueError: there is none, or there are several.
    """
    station = Mavsdk(Configuration.create_with_component_type(ComponentType.GROUND_STATION))
    station.add_any_connection(link)
    deadline_s = time.monotonic() + patience_s
    while not station.get_systems() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    (vehicle,) = station.get_systems()
    return station, vehicle
