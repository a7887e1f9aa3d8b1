"""Which faults can befall a deployment that flies, and where none should."""

from collections.abc import Sequence

from edge.config import FlightConfig
from edge.faults.fault import DISK_FULL, LINK_LOSS, STREAM_KINDS, Fault, check_faults
from edge.mavlink.transport import SerialAddress, parse_link
from models.errors import ConfigError


def check_deployment(faults: Sequence[Fault], config: FlightConfig, *, is_vehicle_safe: bool) -> None:
    """Refuse faults that cannot befall a deployment, or whose answers would reach an autopilot.

    Args:
        faults: as named.
        config: the deployment.
        is_vehicle_safe: whether somebody has said that the autopilot on a serial port may hear of it.
    Raises:
        ConfigError: says which, and what to do.
    """
    fed = {source.stream for source in config.sources}
    for fault in faults:
        if fault.kind in STREAM_KINDS and fault.target in config.streams and fault.target not in fed:
            raise ConfigError(
                f"fault {fault}: stream {fault.target} is fed by a process that this deployment does not start:"
                " expected a source of it under sources"
            )
        if fault.name == DISK_FULL and config.recording is None:
            raise ConfigError(f"fault {fault}: nothing is recorded: expected recording in the deployment")
        if fault.name == LINK_LOSS and config.mavlink is None:
            raise ConfigError(f"fault {fault}: there is no link to lose: expected mavlink in the deployment")
    check_faults(faults, fed, is_live=True, is_recorded=True)
    links = [one.link for one in config.mavlink.link_configs] if config.mavlink is not None else []
    serial = [link for link in links if isinstance(parse_link(link), SerialAddress)]
    if serial and not is_vehicle_safe:
        raise ConfigError(
            f"faults are injected, and {', '.join(serial)} leads to an autopilot that may act on what is answered: take"
            " the link out of the deployment, or say --faults-reach-vehicle where nothing can be harmed"
        )
