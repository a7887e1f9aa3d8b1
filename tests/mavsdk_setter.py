"""A ground station of MAVSDK 4 that sets a parameter and commands; for its own process, because it is a C library.

Prints one line of JSON: all parameters, and the one that was set as it is told afterwards.
"""

import contextlib
import json
import sys
import time

from mavsdk.plugins.param.param import Param, ParamError, ProtocolVersion
from mavsdk_station import vehicle_on

PATIENCE_S = 60
COMPONENT = 191


def main(link: str, name: str, value: float) -> None:
    """Set a parameter of whoever is on a link."""
    deadline_s = time.monotonic() + PATIENCE_S
    _station, vehicle = vehicle_on(link, PATIENCE_S)
    parameters = Param(vehicle)
    with contextlib.suppress(ParamError):  # it says UNKNOWN, and selects it
        parameters.select_component(COMPONENT, ProtocolVersion.V1)
    while True:
        try:
            parameters.set_param_float(name, value)
            break
        except ParamError:
            if time.monotonic() > deadline_s:
                raise
    everything = parameters.get_all_params()
    told = parameters.get_param_float(name)
    print(json.dumps({"all": {one.name: one.value for one in everything.float_params}, "told": told}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
