"""A run in TensorBoard: scalars per epoch."""

from pathlib import Path
from typing import Any

from models.errors import DeviceError

FOLDER = "tensorboard"


class Board:
    """Writes what the log holds, epoch by epoch."""

    def __init__(self, folder: Path, epochs_behind: int) -> None:
        """Open the run's folder; what it holds of later epochs is hidden.

        Raises:
            DeviceError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise DeviceError(
                f"{error.name} is not installed: pip install 'uav-fusion-edge[tensorboard]', or write"
                " `tensorboard: false`"
            ) from error
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=epochs_behind)

    def write(self, line: dict[str, Any]) -> None:
        """Add an epoch's line of the log."""
        for name, value in scalars_of(line).items():
            self._writer.add_scalar(name, value, line["epoch"])
        self._writer.flush()


def scalars_of(line: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a line by name: losses, accuracies, cosines, the rate, and 1 for a branch that trains."""
    found = {
        f"{part}/{name}": value for part in ("losses", "accuracies", "cosines") for name, value in line[part].items()
    }
    found["learning_rate"] = line["learning_rate"]
    if "validation_loss" in line:
        found["losses/validation"] = line["validation_loss"]
    for name in line["losses"]:
        if name != "fused":
            found[f"active/{name}"] = float(name in active_branches(line))
    return found


def active_branches(line: dict[str, Any]) -> tuple[str, ...]:
    """Return which branches an epoch trained: those behind the colon of its stage, none in a refit, else all."""
    stage, _, named = line["stage"].partition(":")
    branches = tuple(name for name in line["losses"] if name != "fused")
    if named in branches:
        return (named,)
    return () if stage == "refit" else branches
