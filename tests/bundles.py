"""A small bundle for tests of the format: its graphs are no graphs, which verification never looks into."""

from models.bundle import GraphEntry, Manifest
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, ModelSpec

SPEC = ModelSpec(
    classes=("field", "forest"),
    modalities=(
        ModalitySpec(name="iq", recipe=IqRecipe(window_samples=64, sample_rate_hz=1000), feature_size=4),
        ModalitySpec(name="image", recipe=ImageRecipe(height_px=8, width_px=8), feature_size=4),
    ),
)
CONTENTS = {f"onnx/{role}.fp32.onnx": role.encode() * 50 for role in ("iq", "image", "fusion")} | {
    "golden/io.npz": bytes(range(256))
}
MANIFEST = Manifest(
    name="demo",
    version=3,
    licence="Apache-2.0",
    description="for tests",
    reproduce=("uav-train fit",),
    spec=SPEC,
    graphs=tuple(
        GraphEntry(role=role, precision="fp32", file=f"onnx/{role}.fp32.onnx") for role in ("iq", "image", "fusion")
    ),
    metrics={"accuracy": 0.9},
    tools={"torch": "2.13.0"},
)
