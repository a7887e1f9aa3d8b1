"""The work folder: where the steps of a calibration leave what the next ones take."""

RANGES = "ranges.npz"
SENSITIVITY = "sensitivity.json"


def graph_file(role: str, precision: str, target: str = "any", batch: str = "one") -> str:
    """Return a graph's path within the work folder and the bundle."""
    of_target = "" if target == "any" else f"-{target}"
    return f"onnx/{role}.{precision}{of_target}{'' if batch == 'one' else '-any-batch'}.onnx"
