"""What a recording says of the deployment that flew."""

import logging
from collections.abc import Mapping, Sequence

from edge.backends.select import PrecisionChoice
from edge.config import FlightConfig, PipelineConfig
from edge.recording.reader import Recording
from models.errors import ConfigError
from models.schema import parse_yaml

log = logging.getLogger(__name__)

DEPLOYMENT = "flight.yaml"
"""Attachment with the deployment."""


def deployment_of(recording: Recording) -> FlightConfig | None:
    """Return what flew, where the recording says so in terms that this version understands."""
    data = recording.attachments.get(DEPLOYMENT)
    if data is None:
        return None
    try:
        return parse_yaml(data, FlightConfig, f"{recording.path}: {DEPLOYMENT}")
    except ConfigError as error:
        log.warning("the limits that flew are not known, the defaults are taken: %s", error)
        return None


def limits_of(deployment: FlightConfig | None, modalities: Sequence[str], precision: PrecisionChoice) -> PipelineConfig:
    """Return the limits of a deployment for a model that may be another than the one that flew.

    Args:
        deployment: that flew, if that is known; else the defaults are returned.
        modalities: of the model.
        precision: of its graphs.
    """
    flown = deployment.pipeline if deployment is not None else PipelineConfig()
    return PipelineConfig(
        max_age_ms=flown.max_age_ms,
        max_skew_ms=flown.max_skew_ms,
        silent_after_periods=flown.silent_after_periods,
        trigger_order=flown.trigger_order if set(flown.trigger_order) == set(modalities) else (),
        precision=precision,
    )


def rates_of(deployment: FlightConfig | None, names: Mapping[str, str]) -> dict[str, float]:
    """Return the rates of a deployment's streams, in Hz, by the names that they have in a recording.

    Args:
        deployment: that flew; without it none is known.
        names: `Recording.names`, of the streams that were recorded.
    """
    streams = deployment.streams if deployment is not None else {}
    return {names[name]: stream.rate_hz for name, stream in streams.items() if name in names}
