"""A ground station of MAVSDK 4 that learns our messages at run time; for its own process, because it is a C library.

Prints "subscribed", then each FUSION_CLASSIFICATION as a line of JSON, until it has seen so many or is ended.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

from mavsdk.plugins.mavlink_direct.mavlink_direct import MavlinkDirect
from mavsdk_station import vehicle_on

PATIENCE_S = 30


def main(link: str, definitions: str, count: int) -> None:
    """Listen on a link."""
    _station, vehicle = vehicle_on(link, PATIENCE_S)
    direct = MavlinkDirect(vehicle)
    direct.load_custom_xml(Path(definitions).read_text())
    lines: list[str] = []
    is_done = threading.Event()

    def note(message: Any, _: Any = None) -> None:
        lines.append(json.dumps({"component": message.component_id, "fields": json.loads(message.fields_json)}))
        if len(lines) >= count:
            is_done.set()

    direct.subscribe_message("FUSION_CLASSIFICATION", note)
    print("subscribed", flush=True)
    is_done.wait(PATIENCE_S)
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
