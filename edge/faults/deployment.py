"""Which faults can befall a deployment that flies, and where none should."""

from collections.abc import Sequence
from pathlib import Path

from edge.config import FlightConfig
from edge.faults.fault import DISK_FULL, LINK_LOSS, STREAM_KINDS, Fault, check_faults
from edge.mavlink.ports.transport import FileAddress, NetworkAddress, parse_link
from models.errors import ConfigError


def check_deployment(faults: Sequence[Fault], config: FlightConfig, *, is_vehicle_safe: bool) -> None:
    """Refuse faults that cannot befall a deployment, or whose answers may reach an autopilot.

    Args:
        faults: as named.
        config: the deployment.
        is_vehicle_safe: whether somebody has said that an autopilot may hear of it.
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
    check_links(links, is_vehicle_safe=is_vehicle_safe)


def check_links(links: Sequence[str], *, is_vehicle_safe: bool) -> None:
    """Refuse links that may lead to a vehicle: all but those that end on this computer, and telemetry logs.

    Who is heard on the others is looked at in flight, see `VehicleWatch`.

    Args:
        links: of a flight with faults.
        is_vehicle_safe: whether somebody has said that an autopilot may hear of them.
    Raises:
        ConfigError: says which, and what to do.
    """
    leading = [link for link in links if not _ends_here(link)]
    if leading and not is_vehicle_safe:
        raise ConfigError(
            f"faults are injected, and {', '.join(leading)} may lead to an autopilot, which acts on what is answered:"
            " take the link out of the deployment, let it end on this computer (127.0.0.1), or say"
            " --faults-reach-vehicle where nothing can be harmed"
        )


def _ends_here(link: str) -> bool:
    address = parse_link(link)
    if isinstance(address, FileAddress):
        path = Path(address.path)
        return path.is_file() or not path.exists()  # no device, no pipe
    return isinstance(address, NetworkAddress) and address.is_loopback
