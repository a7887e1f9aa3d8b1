"""The errors a user can meet, each with the exit code of the process that it ends."""


class OnboardError(Exception):
    """Say what was expected, what came, where, and what to do about it."""

    exit_code = 1


class ConfigError(OnboardError):
    """A configuration file, a command line or a spec is not usable."""

    exit_code = 2


class BundleError(OnboardError):
    """A bundle is missing, damaged, or does not fit this runtime."""

    exit_code = 3


class DeviceError(OnboardError):
    """A device or a library for it (camera, radio, accelerator) is missing or failed."""

    exit_code = 4


class NotBuiltError(DeviceError):
    """A plan that the accelerator needs is not there yet; it may come."""


class LinkError(OnboardError):
    """A socket or a MAVLink link cannot be opened."""

    exit_code = 5


class RecordingError(OnboardError):
    """A recording or a file to import cannot be read or written."""

    exit_code = 6


class InputError(OnboardError):
    """Data (an array, a data set, a checkpoint) is not what the spec says."""

    exit_code = 7
