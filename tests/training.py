"""Small networks and data sets for tests of training: a few milliseconds each."""

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.preprocess import opencv
from models.spec import FusionSpec, ImageRecipe, IqRecipe, ModalitySpec, ModelSpec, SpectrogramRecipe
from trainer.data.examples import Example
from trainer.data.uavpair7 import EMITTERS, SCENES

IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=64, sample_rate_hz=1000), feature_size=8)
SPECTRUM = ModalitySpec(
    name="iq",
    recipe=IqRecipe(window_samples=64, sample_rate_hz=1000, spectrogram=SpectrogramRecipe(fft_size=16, hop=8)),
    feature_size=8,
)
"""As IQ, seen over frequency and time."""
IMAGE = ModalitySpec(name="image", recipe=ImageRecipe(height_px=8, width_px=8), feature_size=6)
THERMAL = ModalitySpec(name="thermal", recipe=ImageRecipe(height_px=8, width_px=8), feature_size=5)


def tiny_spec(method: str = "iemf", modalities: tuple[ModalitySpec, ...] = (IQ, IMAGE)) -> ModelSpec:
    return ModelSpec(classes=("a", "b", "c"), modalities=modalities, fusion=FusionSpec(method=method))


def tiny_sizes(spec: ModelSpec):
    from models.nets.sizes import BranchSizes

    return {name: BranchSizes(widths=(4, 6), strides=(2, 2), dropout=0.1) for name in spec.modality_names}


def tiny_network(spec: ModelSpec, seed: int = 1):
    import torch

    from models.nets.multimodal import MultimodalNet

    torch.manual_seed(seed)
    return MultimodalNet(spec, tiny_sizes(spec)).eval()


class Tones:
    """Three classes: a tone of its own pitch in the radio, a colour of its own in the image."""

    classes = ("a", "b", "c")
    licence = "Apache-2.0"

    def __init__(self, noise: float = 0.3) -> None:
        self.noise = noise

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        label = int(rng.integers(3))
        phase = 2 * np.pi * ((label + 1) * 0.1 * np.arange(64) + rng.random())
        iq = np.stack([np.cos(phase), np.sin(phase)], axis=1) + rng.normal(0, self.noise, (64, 2))
        image = rng.integers(0, 60, (8, 8, 3))
        image[:, :, label] += 150
        return Example(label=label, sensors={"iq": iq.astype(np.float32), "image": image.astype(np.uint8)})

    def validation_examples(self) -> Iterator[Example]:
        for n in range(60):
            yield self.training_example(np.random.default_rng([99, n]), 1.0)


def write_tiny_root(root: Path, suffix: str = "dev") -> Path:
    """Write a data root of two recordings with two windows and three scenes per class; return its pairs CSV."""
    rng = np.random.default_rng(5)
    recordings = [f"{name}/{n:02}/g.data" for name in EMITTERS for n in (1, 2) for _ in range(2)]
    iq = rng.integers(90, 166, (len(recordings), 8192, 2)).astype(np.uint8)
    for folder in ("rf_ism433", "scenes_rsscn7", "uavpair7"):
        (root / folder).mkdir(parents=True)
    labels = np.repeat(np.arange(len(EMITTERS)), 4)
    classes = np.array(EMITTERS)
    arrays = {"iq": iq, "y": labels, "rec": np.array(recordings), "classes": classes}
    np.savez(root / "rf_ism433" / f"rf_windows_{suffix}.npz", **arrays)
    with zipfile.ZipFile(root / "scenes_rsscn7" / f"rsscn7_128_{suffix}.zip", "w") as stored:
        for scene in SCENES:
            for n in range(3):
                frame = rng.integers(0, 256, (128, 128, 3)).astype(np.uint8)
                stored.writestr(f"{scene}/{n}.jpg", opencv().imencode(".jpg", frame)[1].tobytes())
    (root / "uavpair7" / "val_recordings.txt").write_text("\n".join(f"{name}/02/g.data" for name in EMITTERS))
    (root / "uavpair7" / "val_images.txt").write_text("\n".join(f"{scene}/2.jpg" for scene in SCENES))
    path = root / "uavpair7" / "pairs_val.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["label", "class", "image", "rf_index", "rf_recording", "rf_floor_snr_db", "image_severity"])
        for label, scene in enumerate(SCENES):
            window = 4 * label + 2
            rows.writerow([label, scene, f"{scene}/2.jpg", window, recordings[window], -3.5, 0.25])
    return path


class Silent:
    """Looks on, keeps the stages, and stops the run after an epoch where told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.stages: list[str] = []

    def on_step(self, stage, epoch, done, report):
        if len(self.stages) == epoch:
            self.stages.append(stage)

    def on_epoch(self, line):
        if line["epoch"] == self.stop_after:
            raise KeyboardInterrupt

    def on_evaluation(self, done):
        pass


def run_config(folder: Path, **changes):
    """Return a run of a second on two small modalities that share a feature size, as any method can have them."""
    import msgspec

    from trainer.config import TrainConfig
    from trainer.data.synthetic import SyntheticData
    from trainer.methods.gcmt import GcmtConfig

    modalities = (IQ, msgspec.structs.replace(IMAGE, feature_size=IQ.feature_size))
    start = TrainConfig(
        description="test",
        out=str(folder),
        data=SyntheticData(),
        modalities=modalities,
        fusion=FusionSpec(method="concat"),
        sizes=tiny_sizes(tiny_spec()),
        method=GcmtConfig(round_epochs=1),
        epochs=4,
        examples_per_epoch=48,
        batch=16,
        learning_rate=0.01,
        seed=3,
    )
    return msgspec.structs.replace(start, **changes)
