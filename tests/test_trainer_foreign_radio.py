import numpy as np
import pytest
from training import write_tiny_root

from models.errors import InputError
from trainer.data.drone_id import DroneId
from trainer.data.foreign_radio import ASKED, TRAINED, ForeignRadio
from trainer.data.pairs import PairedSites, UavPair7Data
from trainer.data.uavpair7 import EMITTERS, UavPair7

CHANCE = 1 / 7


def add_foreign(root, **changes):
    """Add two kinds of other emitters and a quiet window of each recording to a tiny root."""
    path = root / "rf_ism433" / "rf_windows_dev.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    rng = np.random.default_rng(8)
    other = rng.integers(90, 166, (4, 8192, 2)).astype(np.uint8)
    quiet = rng.integers(126, 130, (14, 8192, 2)).astype(np.uint8)
    arrays["iq"] = np.concatenate([arrays["iq"], other])
    arrays["y"] = np.concatenate([arrays["y"], [7, 7, 8, 8]])
    arrays["rec"] = np.concatenate([arrays["rec"], ["waveman/01/g.data"] * 2, ["ec3k/01/g.data"] * 2])
    arrays["classes"] = np.concatenate([arrays["classes"], ["waveman", "ec3k"]])
    arrays |= {"bg_iq": quiet, "bg_rec": arrays["rec"][:28:2], "bg_src_class": arrays["y"][:28:2]}
    arrays |= changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.fixture
def tiny(tmp_path):
    write_tiny_root(tmp_path)
    add_foreign(tmp_path)
    return tmp_path


def test_emitters_of_training_never_serve_evaluation():
    assert not set(TRAINED) & set(ASKED)
    assert not set(EMITTERS) & {*TRAINED, *ASKED}


def test_outliers_of_the_radio_come_from_emitters_of_training_in_the_asked_share(tiny, monkeypatch):
    drawn = []
    true = ForeignRadio.unknown
    monkeypatch.setattr(ForeignRadio, "unknown", lambda *given: drawn.append(given[1]) or true(*given))
    sites = PairedSites(UavPair7Data(root=str(tiny), unknown_share=0.5), ())
    outliers = [sites.outlier("iq", np.random.default_rng(n)) for n in range(200)]
    assert set(drawn) == {"waveman"}
    assert sum(one is not None for one in outliers) == len(drawn) == pytest.approx(100, abs=4 * np.sqrt(50))
    assert all(one.shape == (8192, 2) for one in outliers if one is not None)
    assert sites.outlier("image", np.random.default_rng(1)) is None
    plain = PairedSites(UavPair7Data(root=str(tiny)), ())
    rng = np.random.default_rng(1)
    assert plain.outlier("iq", rng) is None
    assert rng.random() == np.random.default_rng(1).random()  # nothing is drawn: runs of old keep their bits


def test_batches_hold_the_outliers_of_the_data_set(tiny):
    pytest.importorskip("torch")
    from models.spec import FusionSpec, ImageRecipe, IqRecipe, ModalitySpec, ModelSpec
    from trainer.data.uavpair7 import CLASSES
    from trainer.training.batches import BatchMaker

    iq = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=8192, sample_rate_hz=250_000), feature_size=8)
    image = ModalitySpec(name="image", recipe=ImageRecipe(height_px=16, width_px=16), feature_size=8)
    spec = ModelSpec(classes=CLASSES, modalities=(iq, image), fusion=FusionSpec())
    outliers = {}
    for share in (0.0, 1.0):
        data = PairedSites(UavPair7Data(root=str(tiny), unknown_share=share), spec.modalities)
        maker = BatchMaker(data=data, spec=spec, seed=3, batch=4, modality_dropout=0.0, outlier_share=0.5)
        outliers[share] = maker.training(0, 0, 1.0).outliers
    assert outliers[1.0]["iq"].shape == (2, 2, 8192)
    assert not outliers[1.0]["iq"].equal(outliers[0.0]["iq"])
    assert outliers[1.0]["image"].equal(outliers[0.0]["image"])


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"unknown_share is 1.5: expected 0 to 1"):
        UavPair7Data(unknown_share=1.5)


def test_an_unknown_example_differs_from_the_known_one_by_its_radio_alone(tiny):
    sites = PairedSites(UavPair7Data(root=str(tiny)), ())
    known, unknown = list(sites.validation_examples()), list(sites.unknown_examples())
    assert {emitter for emitter, _ in unknown} == {"ec3k"}  # waveman may be trained on, the rest is not in this root
    assert len(known) == len(unknown) == 7
    for one, (_, other) in zip(known, unknown, strict=True):
        assert one.label == other.label
        assert not np.array_equal(one.sensors["iq"], other.sensors["iq"])
        assert np.corrcoef(one.sensors["image"].ravel(), other.sensors["image"].ravel())[0, 1] > 0.95
    again = [example.sensors["iq"] for _, example in sites.unknown_examples()]
    assert all(np.array_equal(one.sensors["iq"], two) for (_, one), two in zip(unknown, again, strict=True))


def test_quiet_windows_come_from_every_site_in_several_draws_without_a_scene(tiny):
    examples = list(PairedSites(UavPair7Data(root=str(tiny)), ()).quiet_windows(10))
    assert [example.label for example in examples] == [label for label in range(7) for _ in range(2 * 3)]
    assert all(example.sensors["image"] is None for example in examples)
    first, second = examples[0].sensors["iq"], examples[1].sensors["iq"]
    assert np.sqrt((first**2).sum(axis=1).mean()) == pytest.approx(1, rel=1e-5)
    assert not np.array_equal(first, second)


def test_a_drone_is_heard_as_a_short_slice_of_its_band(tiny):
    path = tiny / "drone_rf" / "mavic_air_2.sigmf-data"
    path.parent.mkdir()
    rng = np.random.default_rng(2)
    (rng.normal(size=(200_000, 2)).astype(np.float32)).tofile(path)
    window, power = DroneId(path).heard(np.random.default_rng(4))
    sounding = np.flatnonzero(window.any(axis=1))
    assert len(sounding) == sounding[-1] - sounding[0] + 1 == 1000  # 200000 samples at 50 MS/s last 4 ms
    assert power == pytest.approx(2 / 200, rel=0.3)  # of white noise, a narrow receiver takes its share
    sites = PairedSites(UavPair7Data(root=str(tiny)), ())
    assert [emitter for emitter, _ in sites.unknown_examples()] == ["ec3k", "dji_droneid"] * 3 + ["ec3k"]
    path.write_bytes(b"12345678")
    with pytest.raises(InputError, match="1 samples"):
        DroneId(path)


def test_a_root_of_known_emitters_alone_asks_no_such_question(tmp_path):
    write_tiny_root(tmp_path)
    sites = PairedSites(UavPair7Data(root=str(tmp_path)), ())
    assert list(sites.unknown_examples()) == []
    assert list(sites.quiet_windows(10)) == []


@pytest.mark.parametrize("changes", [{"bg_iq": np.zeros((14, 9, 2), np.uint8)}, {"bg_rec": np.array(["a", "b"])}])
def test_quiet_windows_that_do_not_fit_are_refused(tmp_path, changes):
    write_tiny_root(tmp_path)
    add_foreign(tmp_path, **changes)
    with pytest.raises(InputError, match=r"bg_iq is uint8 .*copy it again"):
        ForeignRadio(UavPair7(tmp_path))


@pytest.mark.slow
def test_a_radio_branch_trained_on_bursts_knows_nothing_of_windows_without_one(shared_data):
    """Each class has its own receiver: what a branch says of its mere floor must stay near chance."""
    import torch
    from torch.nn.functional import cross_entropy

    from models.nets.encoders import Branch
    from models.nets.sizes import BranchSizes
    from models.spec import IqRecipe, ModalitySpec
    from trainer.data.corruption import BlockDraws, corrupt_radio
    from trainer.data.uavpair7 import Part, Preset

    data = UavPair7(shared_data)
    loud = Preset(snr_db=(0.0, 10.0), severity=(0.0, 0.0))

    def drawn(part, count, seed):
        rng = np.random.default_rng(seed)
        pairs = [part.pair(loud, rng) for _ in range(count)]
        noise = [data.burst_power(pair.recording) / 10 ** (pair.snr_db / 10) for pair in pairs]
        draws = BlockDraws(rng)
        windows = [
            corrupt_radio(data.windows[pair.window], one, draws).T for pair, one in zip(pairs, noise, strict=True)
        ]
        return torch.from_numpy(np.stack(windows)), torch.tensor([pair.label for pair in pairs])

    torch.set_num_threads(1)
    torch.manual_seed(1)
    modality = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=8192, sample_rate_hz=250_000), feature_size=32)
    branch = Branch(modality, BranchSizes(widths=(16, 24, 32, 48), strides=(8, 4, 4, 4), dropout=0.0), 7)
    optimizer = torch.optim.AdamW(branch.parameters(), lr=0.005)
    part = Part(data, "training")
    for step in range(160):
        windows, labels = drawn(part, 32, [5, step])
        loss = cross_entropy(branch(windows)[1], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    branch.eval()

    def average_accuracy(windows, labels):
        with torch.no_grad():
            said = branch(windows)[1].argmax(dim=1)
        return np.mean([(said == label)[labels == label].float().mean() for label in range(7)])

    assert average_accuracy(*drawn(Part(data, "validation"), 210, 6)) > 5 * CHANCE
    for snr_db, most in ((10, 0.30), (5, 0.22)):
        quiet = list(ForeignRadio(data).quiet(snr_db))
        windows = torch.from_numpy(np.stack([one.iq.T for one in quiet]))
        assert average_accuracy(windows, torch.tensor([one.label for one in quiet])) <= most
