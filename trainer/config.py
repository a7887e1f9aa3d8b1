"""What a training run is: data, network, method, and the numbers of the optimizer."""

from pathlib import Path
from typing import Literal

import msgspec

from models.nets.sizes import BranchSizes
from models.spec import FusionSpec, ModalitySpec
from trainer.data.catalogue import DataConfig
from trainer.methods.catalogue import MethodConfig
from trainer.training.device import Device
from trainer.training.early_stop import EarlyStopConfig


class QatConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `uav-train fit --qat` continues a finished run."""

    epochs: int = 3
    learning_rate: float = 0.0003

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.learning_rate <= 1:
            raise ValueError("qat: expected epochs of 1 or more and learning_rate above 0 to 1")


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of `uav-train fit`."""

    description: str
    """One line that travels with the model into its bundle."""
    out: str
    """Folder for checkpoint, resume state and log."""
    data: DataConfig
    modalities: tuple[ModalitySpec, ...]
    fusion: FusionSpec
    sizes: dict[str, BranchSizes]
    """Per modality."""
    method: MethodConfig
    epochs: int
    """Budget; GCMT runs more, since its alternating epochs train one branch only."""
    examples_per_epoch: int
    batch: int
    learning_rate: float
    """Of AdamW, at its peak."""
    seed: int
    weight_decay: float = 0.01
    modality_dropout: float = 0.3
    """Share of examples that the fusion head sees without one of the modalities."""
    outlier_share: float = 0.125
    """Inputs that say nothing, per example; the branches learn to doubt them."""
    threads: int = 1
    """Of torch; a further one makes examples."""
    device: Device = "auto"
    """auto: a GPU where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the encoders; heads, fusion, losses, gradients and weights are float32 in either."""
    early_stop: EarlyStopConfig | None = None
    """Off by default: weights chosen on validation examples make figures from the same examples optimistic."""
    qat: QatConfig = QatConfig()
    """Of `--qat`: more epochs on the finished checkpoint, the branches computing as in INT8."""
    tensorboard: bool = False
    """Write losses, accuracies, cosines and learning rate to <out>/tensorboard; needs the extra [tensorboard]."""

    def __post_init__(self) -> None:
        for name in ("epochs", "examples_per_epoch", "batch", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if self.batch < 2 or self.examples_per_epoch < self.batch:
            raise ValueError(f"batch is {self.batch}: expected 2 to examples_per_epoch ({self.examples_per_epoch})")
        if not 0 < self.learning_rate <= 1 or not 0 <= self.weight_decay <= 1:
            raise ValueError("expected learning_rate above 0 to 1 and weight_decay 0 to 1")
        if not 0 <= self.modality_dropout <= 1 or not 0 <= self.outlier_share <= 1:
            raise ValueError("expected modality_dropout and outlier_share 0 to 1")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}: expected 0 to 2147483647")

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.out)
