"""UAVPair-7: seven kinds of site, each example one aerial scene with one window of that site's radio emitter.

Real recordings, paired by class and made harder by seeded corruptions. The radio noise and the carrier offset are
always on: every emitter was recorded by its own receiver, and without them the receiver gives the class away.
"""

import csv
import dataclasses
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.preprocess import opencv
from trainer.data.arrays import load_arrays
from trainer.data.corruption import ZERO_LEVEL, Draws, corrupt_radio, corrupt_scene

CLASSES = ("parking", "resident", "industry", "field", "grass", "river_lake", "forest")
SCENES = ("gParking", "fResident", "cIndustry", "bField", "aGrass", "dRiverLake", "eForest")
EMITTERS = (
    "hyundai_remote",
    "brennstuhl_rcs_2044",
    "oregon_scientific",
    "auriol",
    "TFA-Twin-Plus-30.3049",
    "UPM",
    "rubicson",
)
SAMPLE_RATE_HZ = 250_000
WINDOW_SAMPLES = 8192
SCENE_PX = 128
PAIR_SEED = 20251

_POWER_BLOCK_SAMPLES = 64
_COLUMNS = ("label", "class", "image", "rf_index", "rf_recording", "rf_floor_snr_db", "image_severity")
_ARRAYS = ("iq", "y", "rec", "classes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """How hard the examples are, and how unequal the classes of the training part."""

    snr_db: tuple[float, float]
    """Lowest and highest ratio of burst power to the added noise floor."""
    severity: tuple[float, float]
    """Least and most image corruption, 0 to 1."""
    imbalance: float = 1.0
    """Training examples of class 0 over those of class 6; evaluation is always balanced."""


PRESETS = {
    "easy": Preset(snr_db=(5.0, 5.0), severity=(0.0, 0.0)),
    "mid": Preset(snr_db=(-10.0, 5.0), severity=(0.0, 0.5)),
    "hard": Preset(snr_db=(-16.0, 0.0), severity=(0.0, 0.8)),
    "mid-imb10": Preset(snr_db=(-10.0, 5.0), severity=(0.0, 0.5), imbalance=10.0),
    "hard-imb10": Preset(snr_db=(-16.0, 0.0), severity=(0.0, 0.8), imbalance=10.0),
    "image-dominant": Preset(snr_db=(-18.0, -8.0), severity=(0.0, 0.2)),
    "rf-dominant": Preset(snr_db=(-3.0, 8.0), severity=(0.0, 1.0)),
}
VALIDATION_PRESET = "mid"
"""How hard the pairs of pairs_val.csv are written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One row of a pairs file: which window, which scene, and how corrupted."""

    label: int
    scene: str
    window: int
    """Index into the radio windows of the data root."""
    recording: str
    snr_db: float
    severity: float


class PairedExample(NamedTuple):
    """What the two sensors deliver at one site."""

    label: int
    iq: NDArray[np.float32]
    """(8192, 2), no DC, unit RMS."""
    image: NDArray[np.uint8]
    """(128, 128, 3), BGR."""


View = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Which part of a clean scene is seen, and from where."""


def unchanged(scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the whole scene as it is."""
    return scene


class UavPair7:
    """The windows and scenes of one data root, held in memory."""

    def __init__(self, root: Path) -> None:
        """Read `root`/rf_ism433 and `root`/scenes_rsscn7.

        Raises:
            InputError: a folder, file, array or class is missing, or there is more than one candidate file.
        """
        self.root = root
        self.windows_path = _only_file(root, "rf_ism433", "rf_windows_*.npz")
        arrays = _load_arrays(self.windows_path)
        self.windows = arrays["iq"]
        """(windows, 8192, 2), uint8."""
        self.recordings = tuple(str(name) for name in arrays["rec"])
        """Origin recording of each window: split by this, never by window."""
        emitters = [str(name) for name in arrays["classes"]]
        absent = [name for name in EMITTERS if name not in emitters or not np.any(arrays["y"] == emitters.index(name))]
        if absent:
            raise InputError(f"{self.windows_path}: no windows of {', '.join(absent)}: copy the data set again")
        site = {emitters.index(name): label for label, name in enumerate(EMITTERS)}
        self.window_labels = np.array([site.get(int(code), -1) for code in arrays["y"]])
        """Site label of each window, -1 for emitters of no site."""
        self.scenes = _load_scenes(_only_file(root, "scenes_rsscn7", "rsscn7_128_*.zip"))
        """JPEG bytes by `<class>/<name>.jpg`."""
        self._burst_power: dict[str, float] = {}
        self._decoded: dict[str, NDArray[np.uint8]] = {}

    def burst_power(self, recording: str) -> float:
        """Return the power of a recording's bursts: median over windows of the 90th percentile over 64 samples."""
        if recording not in self._burst_power:
            chosen = self.windows[[name == recording for name in self.recordings]]
            power = ((chosen - ZERO_LEVEL) ** 2).sum(axis=2)  # (windows, samples)
            blocks = power.reshape(len(chosen), -1, _POWER_BLOCK_SAMPLES).mean(axis=2)
            self._burst_power[recording] = float(np.median(np.percentile(blocks, 90, axis=1)))
        return self._burst_power[recording]

    def example(self, pair: Pair, draws: Draws, view: View = unchanged) -> PairedExample:
        """Return the corrupted example of a pair, its scene seen through `view`; the radio draws first."""
        power = self.burst_power(pair.recording)
        iq = corrupt_radio(self.windows[pair.window], power / 10 ** (pair.snr_db / 10), draws)
        return PairedExample(pair.label, iq, corrupt_scene(view(self.scene(pair.scene)), pair.severity, draws))

    def scene(self, name: str) -> NDArray[np.uint8]:
        """Return a scene, (128, 128, 3) BGR; it is decoded once and kept, 49 kB."""
        if name not in self._decoded:
            self._decoded[name] = self._decode(name)
        return self._decoded[name]

    def _decode(self, name: str) -> NDArray[np.uint8]:
        cv2 = opencv()
        frame = cv2.imdecode(np.frombuffer(self.scenes[name], np.uint8), cv2.IMREAD_COLOR)
        if frame is None or frame.shape != (SCENE_PX, SCENE_PX, 3):
            found = "no image" if frame is None else f"shape {frame.shape}"
            raise InputError(f"{self.root}: {name}: expected {SCENE_PX} x {SCENE_PX} px, found {found}: copy it again")
        return np.asarray(frame, np.uint8)

    def read_pairs(self, path: Path) -> tuple[Pair, ...]:
        """Read a pairs CSV and check every row against this root.

        Raises:
            InputError: the file is absent or empty, or a row is malformed or does not belong to this root.
        """
        try:
            with path.open(newline="") as stream:
                rows = csv.DictReader(stream)
                missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
                if missing:
                    raise InputError(f"{path}: no column {', '.join(missing)}: expected {','.join(_COLUMNS)}")
                pairs = tuple(self._pair(row, f"{path}:{line}") for line, row in enumerate(rows, start=2))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: cannot be read ({error}): name a pairs CSV") from error
        if not pairs:
            raise InputError(f"{path}: no pairs: expected at least one row")
        return pairs

    def _pair(self, row: dict[str, Any], where: str) -> Pair:
        try:
            pair = Pair(
                label=int(row["label"]),
                scene=row["image"],
                window=int(row["rf_index"]),
                recording=row["rf_recording"],
                snr_db=float(row["rf_floor_snr_db"]),
                severity=float(row["image_severity"]),
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}: expected a row of {','.join(_COLUMNS)}") from error
        problem = self._problem(pair, row["class"])
        if problem:
            raise InputError(f"{where}: {problem}: use the pairs file that came with {self.root}")
        return pair

    def _problem(self, pair: Pair, scene_class: str) -> str:
        """Say why a pair does not belong to this root; empty where it does."""
        if not 0 <= pair.label < len(CLASSES) or SCENES[pair.label] != scene_class:
            return f"label {pair.label} with class {scene_class!r}"
        if pair.scene not in self.scenes or not pair.scene.startswith(f"{scene_class}/"):
            return f"no image {pair.scene!r} of class {scene_class}"
        if not 0 <= pair.window < len(self.windows) or self.recordings[pair.window] != pair.recording:
            return f"radio window {pair.window} is not of recording {pair.recording!r}"
        if self.window_labels[pair.window] != pair.label:
            return f"radio window {pair.window} is not of {EMITTERS[pair.label]}"
        if not abs(pair.snr_db) <= 100 or not 0 <= pair.severity <= 1:
            return f"SNR {pair.snr_db} dB with severity {pair.severity}: expected -100..100 and 0..1"
        return ""


class Part:
    """The windows and scenes of one side of a root's split, drawn at random."""

    def __init__(self, data: UavPair7, side: Literal["training", "validation"]) -> None:
        """Split `data` by the two lists of validation files: whole recordings, whole images.

        Raises:
            InputError: a list is missing, or leaves a class without windows or scenes.
        """
        self.data = data
        is_held = side == "validation"
        held_recordings = _read_list(data.root, "val_recordings.txt")
        held_scenes = _read_list(data.root, "val_images.txt")
        self.windows: list[dict[str, list[int]]] = [{} for _ in CLASSES]
        """Per label: recording -> its windows."""
        for window, (recording, label) in enumerate(zip(data.recordings, data.window_labels, strict=True)):
            if label >= 0 and (recording in held_recordings) == is_held:
                self.windows[label].setdefault(recording, []).append(window)
        self.scenes = [
            sorted(name for name in data.scenes if name.startswith(f"{scene}/") and (name in held_scenes) == is_held)
            for scene in SCENES
        ]
        """Per label: names of scenes."""
        for label, site in enumerate(CLASSES):
            if not self.windows[label] or not self.scenes[label]:
                raise InputError(f"{data.root}: no {side} examples of {site}: mend the lists of validation files")

    def pair(self, preset: Preset, rng: np.random.Generator) -> Pair:
        """Draw a label by the preset's imbalance, then a pair of that kind of site."""
        share = preset.imbalance ** (-np.arange(len(CLASSES)) / (len(CLASSES) - 1))
        label = int(rng.choice(len(CLASSES), p=share / share.sum()))
        return self.pair_of(label, label, preset, rng)

    def pair_of(self, scene: int, emitter: int, preset: Preset, rng: np.random.Generator) -> Pair:
        """Draw a recording, a scene, a window and the corruption; the pair's label is the emitter's."""
        recordings = self.windows[emitter]
        recording = list(recordings)[rng.integers(len(recordings))]
        return Pair(
            label=emitter,
            scene=self.scenes[scene][rng.integers(len(self.scenes[scene]))],
            window=recordings[recording][rng.integers(len(recordings[recording]))],
            recording=recording,
            snr_db=float(rng.uniform(*preset.snr_db)),
            severity=float(rng.uniform(*preset.severity)),
        )


def evaluation_examples(root: Path, pairs_csv: Path) -> Iterator[PairedExample]:
    """Yield the examples of a pairs CSV in its order: the same on every run and every machine.

    Raises:
        InputError: as `UavPair7` and `UavPair7.read_pairs`.
    """
    data = UavPair7(root)
    for row, pair in enumerate(data.read_pairs(pairs_csv)):
        yield data.example(pair, np.random.default_rng([PAIR_SEED, row]))


def as_hard_as(pair: Pair, preset: Preset) -> Pair:
    """Return a pair of pairs_val.csv with its corruption moved to the same place in the ranges of a preset."""
    written = PRESETS[VALIDATION_PRESET]
    if (preset.snr_db, preset.severity) == (written.snr_db, written.severity):
        return pair
    return dataclasses.replace(
        pair,
        snr_db=float(np.interp(pair.snr_db, written.snr_db, preset.snr_db)),
        severity=float(np.interp(pair.severity, written.severity, preset.severity)),
    )


def _only_file(root: Path, folder: str, pattern: str) -> Path:
    found = sorted((root / folder).glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{root / folder}: expected one {pattern}, found {names}:"
            " name the data folder that holds rf_ism433, scenes_rsscn7 and uavpair7"
        )
    return found[0]


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays = load_arrays(path, _ARRAYS, "radio windows")
    shape, dtype = arrays["iq"].shape, arrays["iq"].dtype
    if shape[1:] != (WINDOW_SAMPLES, 2) or dtype != np.uint8:
        raise InputError(f"{path}: iq is {dtype} {shape}: expected uint8 (windows, {WINDOW_SAMPLES}, 2)")
    if not len(arrays["y"]) == len(arrays["rec"]) == shape[0]:
        raise InputError(f"{path}: iq, y and rec differ in length: copy the data set again")
    return arrays


def _load_scenes(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as stored:
            scenes = {name: stored.read(name) for name in sorted(stored.namelist()) if name.endswith(".jpg")}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not readable as a zip of scenes ({error}): copy the data set again") from error
    absent = [scene for scene in SCENES if not any(name.startswith(f"{scene}/") for name in scenes)]
    if absent:
        raise InputError(f"{path}: no images of {', '.join(absent)}: copy the data set again")
    return scenes


def _read_list(root: Path, name: str) -> set[str]:
    path = root / "uavpair7" / name
    try:
        return set(path.read_text().split())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): training needs the validation lists") from error
