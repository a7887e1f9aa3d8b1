import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import CONTENTS, MANIFEST
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mutate_bundle import signed_bundle

from models.bundle import add_signature, open_bundle, pack_bundle, write_bundle
from models.errors import BundleError, ConfigError, DeviceError
from models.signature import Trust, make_keys, parse_signature, read_private_key, read_public_key, read_trust, sign

PEM = serialization.Encoding.PEM
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo
PKCS8 = serialization.PrivateFormat.PKCS8


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A private key, its public one beside it as `mine.pub`."""
    make_keys(tmp_path / "mine", tmp_path / "mine.pub")
    return tmp_path / "mine"


def public(private: Path) -> Path:
    return private.with_name(f"{private.name}.pub")


def refusal(path: Path, trust: Trust) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path, trust)
    return str(caught.value)


def test_a_bundle_signed_by_a_trusted_key_is_trusted(tmp_path: Path) -> None:
    path, trust = signed_bundle(tmp_path)
    bundle = open_bundle(path, trust)
    assert bundle.is_trusted
    assert bundle.signature is not None
    assert bundle.signature.key_id == trust.keys[0].key_id
    assert bundle.contents == CONTENTS


def test_a_signature_that_nobody_asks_about_is_shown_and_not_trusted(tmp_path: Path) -> None:
    path, _ = signed_bundle(tmp_path)
    bundle = open_bundle(path)
    assert bundle.signature is not None
    assert not bundle.is_trusted


def test_an_archive_can_be_signed_as_a_folder_can(tmp_path: Path) -> None:
    folder, trust = signed_bundle(tmp_path)
    archive = pack_bundle(open_bundle(write_bundle(tmp_path / "other", MANIFEST, CONTENTS)), tmp_path)
    unsigned = open_bundle(archive)
    add_signature(unsigned, sign(unsigned.head["manifest.yaml"], read_private_key(tmp_path / "key")))
    assert open_bundle(archive, trust).is_trusted
    assert open_bundle(archive).head == open_bundle(folder).head


def test_writing_a_bundle_anew_takes_its_signature_away(tmp_path: Path) -> None:
    path, _ = signed_bundle(tmp_path)
    write_bundle(tmp_path, MANIFEST, CONTENTS)
    assert open_bundle(path).signature is None


def test_an_unsigned_bundle_is_refused_where_a_signature_is_required(tmp_path: Path, keys: Path) -> None:
    path = write_bundle(tmp_path, MANIFEST, CONTENTS)
    assert not open_bundle(path, read_trust([public(keys)], is_required=False)).is_trusted
    text = refusal(path, read_trust([public(keys)], is_required=True))
    assert text == f"{path}: not signed, and a signature is required: have it signed with uav-calibrate bundle sign"


@pytest.mark.parametrize("is_required", [False, True])
def test_a_key_that_is_not_trusted_is_named_beside_those_that_are(
    tmp_path: Path, keys: Path, is_required: bool
) -> None:
    path, theirs = signed_bundle(tmp_path)
    trust = read_trust([public(keys)], is_required=is_required)
    text = refusal(path, trust)
    assert f"signed with key {theirs.keys[0].key_id}, trusted are {trust.keys[0].key_id}:" in text


def test_one_of_several_keys_is_enough(tmp_path: Path, keys: Path) -> None:
    path, _ = signed_bundle(tmp_path)
    assert open_bundle(path, read_trust([public(keys), tmp_path / "key.pub"], is_required=True)).is_trusted


def test_a_bundle_whose_hashes_were_all_made_anew_is_refused_by_its_signature(tmp_path: Path) -> None:
    path, trust = signed_bundle(tmp_path)
    signature = (path / "manifest.sig").read_bytes()
    write_bundle(tmp_path, MANIFEST, CONTENTS | {"onnx/iq.fp32.onnx": b"forged"})
    (path / "manifest.sig").write_bytes(signature)
    assert open_bundle(path).graph("iq") == b"forged"
    assert "does not belong to this manifest: the bundle was changed after it was signed" in refusal(path, trust)


def test_nothing_is_parsed_before_it_is_trusted(tmp_path: Path) -> None:
    path, trust = signed_bundle(tmp_path)
    text = b"not: [a, manifest"
    (path / "manifest.yaml").write_bytes(text)
    (path / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest() + "\n")
    assert "not YAML" in refusal(path, Trust())
    assert "does not belong to this manifest" in refusal(path, trust)


def test_what_the_key_signed_elsewhere_is_no_signature_of_a_bundle(tmp_path: Path) -> None:
    path, trust = signed_bundle(tmp_path)
    bare = read_private_key(tmp_path / "key").sign((path / "manifest.yaml").read_bytes())
    (path / "manifest.sig").write_bytes(
        b"uavb-signature 1\nkey %s\ned25519 %s\n" % (trust.keys[0].key_id.encode(), base64.b64encode(bare))
    )
    assert "does not belong to this manifest" in refusal(path, trust)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b"\r\n"),
        (b"signature 1", b"signature 2"),
        (b"key ", b"key  "),
        (b"==", b"="),
        (b"ed25519 ", b"ed448 "),
        (b"ed25519 ", b"ed25519 *"),
    ],
)
def test_a_signature_that_is_written_otherwise_is_refused_even_unasked(tmp_path: Path, old: bytes, new: bytes) -> None:
    path, _ = signed_bundle(tmp_path)
    text = (path / "manifest.sig").read_bytes()
    (path / "manifest.sig").write_bytes(text.replace(old, new))
    assert "manifest.sig: not a signature of a bundle" in refusal(path, Trust())


def test_base64_with_bits_that_say_nothing_is_refused(keys: Path) -> None:
    text = sign(b"manifest", read_private_key(keys))
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(text[-4:-3])
    twin = (
        text[:-4] + b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[last + 1 : last + 2] + b"==\n"
    )
    assert parse_signature(text, "x")
    assert base64.b64decode(twin.split()[-1]) == base64.b64decode(text.split()[-1])
    with pytest.raises(BundleError, match="not a signature"):
        parse_signature(twin, "x")


def test_keys_are_made_for_their_owner_alone_and_never_overwritten(tmp_path: Path, keys: Path) -> None:
    assert keys.stat().st_mode & 0o777 == 0o600
    assert read_public_key(public(keys)).raw == read_private_key(keys).public_key().public_bytes_raw()
    before = keys.read_bytes()
    with pytest.raises(ConfigError, match=r"mine\.pub: exists, and a key is never overwritten"):
        make_keys(tmp_path / "new", public(keys))
    with pytest.raises(ConfigError, match=r"mine, .*: exists"):
        make_keys(keys, public(keys))
    assert keys.read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_a_private_key_that_others_can_read_is_not_used(keys: Path) -> None:
    keys.chmod(0o640)
    with pytest.raises(ConfigError, match=f"others can read .mode 640.: chmod 600 {keys}"):
        read_private_key(keys)


def test_a_private_key_given_as_a_public_one_is_recognized(keys: Path) -> None:
    with pytest.raises(ConfigError, match="a private key: give the public one"):
        read_public_key(keys)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 5000, b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    for read in (read_public_key, read_private_key):
        with pytest.raises(ConfigError, match=r"key: (expected a key file|not a (public|private) key)"):
            read(file)


def test_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "other").touch(0o600)
    (tmp_path / "other").write_bytes(other.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    (tmp_path / "other.pub").write_bytes(other.public_key().public_bytes(PEM, PUBLIC))
    with pytest.raises(ConfigError, match="expected an Ed25519 private key, got EC"):
        read_private_key(tmp_path / "other")
    with pytest.raises(ConfigError, match="expected an Ed25519 public key, got EC"):
        read_public_key(tmp_path / "other.pub")


def test_a_private_key_with_a_password_is_refused(tmp_path: Path, keys: Path) -> None:
    secret = read_private_key(keys).private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x"))
    keys.write_bytes(secret)
    with pytest.raises(ConfigError, match="not a private key in PEM without password"):
        read_private_key(keys)


def test_absent_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nobody\.pub: cannot be read \(No such file"):
        read_trust([tmp_path / "nobody.pub"], is_required=True)
    with pytest.raises(ConfigError, match="no key is given to check it with: add --keys"):
        read_trust([], is_required=True)


def test_without_the_library_the_remedy_is_said_and_unsigned_bundles_fly_on(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bundle(tmp_path, MANIFEST, CONTENTS)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert open_bundle(path).contents == CONTENTS
    for need in (
        lambda: read_trust([public(keys)], is_required=True),
        lambda: read_private_key(keys),
        lambda: make_keys(tmp_path / "a", tmp_path / "a.pub"),
    ):
        with pytest.raises(DeviceError, match=r"not installed: pip install 'uav-fusion-edge\[keys\]'"):
            need()


def test_openssl_reads_the_keys_and_agrees_with_the_signature(tmp_path: Path, keys: Path) -> None:
    text = sign(b"manifest", read_private_key(keys))
    (tmp_path / "signed").write_bytes(b"uavb manifest 1\0manifest")
    (tmp_path / "value").write_bytes(parse_signature(text, "x").value)
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public(keys))]
    try:
        done = subprocess.run(
            [*command, "-sigfile", str(tmp_path / "value"), "-in", str(tmp_path / "signed")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs the openssl program")
    assert "Signature Verified Successfully" in done.stdout, done.stderr
