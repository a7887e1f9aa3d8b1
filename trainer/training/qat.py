"""Quantization-aware training: a few more epochs on a finished checkpoint, its branches computing as in INT8.

The step after calibration alone has failed its gates. The result is a checkpoint of the same network, to be exported
and calibrated like any other: its weights have settled where rounding harms them least.
"""

import msgspec

from models.errors import InputError
from models.nets.checkpoint import load_weights, read_checkpoint
from models.nets.fake_quantization import quantize_branches
from trainer.config import TrainConfig
from trainer.data.catalogue import open_data_set
from trainer.methods.aux import AuxConfig
from trainer.training.loop import CHECKPOINT, Trainer
from trainer.training.ranks import ALONE, Place

_OBSERVED_BATCHES = 8


def qat_config(config: TrainConfig) -> TrainConfig:
    """Return the configuration of a run's quantization-aware continuation, which writes to `<out>/qat`.

    All parameters learn from the fused and the branches' own losses, at the difficulty where training ended.
    """
    data = config.data
    if getattr(data, "has_curriculum", False):
        data = msgspec.structs.replace(data, has_curriculum=False)
    return msgspec.structs.replace(
        config,
        description=f"{config.description}, quantization-aware",
        out=str(config.folder / "qat"),
        data=data,
        method=AuxConfig(),
        epochs=config.qat.epochs,
        learning_rate=config.qat.learning_rate,
        precision="fp32",
        early_stop=None,
    )


def qat_trainer(config: TrainConfig, place: Place = ALONE) -> Trainer:
    """Return a trainer that continues a finished run with quantized branches.

    Raises:
        InputError: the run has no checkpoint, or it is one of another network.
    """
    path = config.folder / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint: train without --qat first, it starts from what that wrote")
    start = read_checkpoint(path)
    continued = qat_config(config)
    trainer = Trainer(continued, open_data_set(continued.data, continued.modalities), place)
    load_weights(trainer.network, start.network.state_dict(), str(path))
    trainer.network.eval()
    batches = [trainer.batches.probe(number).to(trainer.device).inputs for number in range(_OBSERVED_BATCHES)]
    quantize_branches(trainer.network, batches)
    return trainer
