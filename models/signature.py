"""Who made a bundle: an Ed25519 signature over its manifest, which holds the hash of every other file.

manifest.sig is three lines of text, so that nothing has to be parsed before it is trusted:
    uavb-signature 1
    key <16 hexadecimal digits: the beginning of the SHA-256 of the public key>
    ed25519 <64 bytes in base64>
"""

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.disk import sync_folder, write_file
from models.errors import BundleError, ConfigError, DeviceError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_BYTES = 200
"""Of manifest.sig; it has 140."""
_MAX_KEY_BYTES = 4096
_DOMAIN = b"uavb manifest 1\0"
"""Stands before the manifest when it is signed: what this key signs elsewhere is no bundle, and the reverse."""
_TEXT = re.compile(rb"uavb-signature 1\nkey ([0-9a-f]{16})\ned25519 ([A-Za-z0-9+/]{86}==)\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What manifest.sig says; true only once it is checked."""

    key_id: str
    value: bytes
    """64 bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicKey:
    """One whose bundles are trusted."""

    raw: bytes
    """32 bytes."""

    @property
    def key_id(self) -> str:
        """The beginning of the key's SHA-256, by which a signature names its key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """Whose bundles are taken."""

    keys: tuple[PublicKey, ...] = ()
    is_required: bool = False
    """Whether a bundle without a signature is refused; with keys, a signature that is there is always checked."""


def read_trust(files: Sequence[Path], *, is_required: bool) -> Trust:
    """Return the trust in public key files.

    Raises:
        ConfigError: a signature is required, of no key; or a file is no public key.
        DeviceError: there are keys, and no `cryptography` to check with.
    """
    if is_required and not files:
        raise ConfigError("a signature is required, and no key is given to check it with: add --keys FILE.pub")
    return Trust(keys=tuple(map(read_public_key, files)), is_required=is_required)


def make_keys(private: Path, public: Path) -> str:
    """Write a new key pair, the private one for its owner's eyes only; return the key id.

    Raises:
        ConfigError: a file exists already: a key is never overwritten.
    """
    _need_library()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    existing = [str(path) for path in (private, public) if os.path.lexists(path)]
    if existing:
        raise ConfigError(f"{', '.join(existing)}: exists, and a key is never overwritten: name another file")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_file(private, (secret,), 0o600)
    write_file(public, (shown,))
    sync_folder(private.parent)
    sync_folder(public.parent)
    return _public_part(key).key_id


def read_private_key(path: Path) -> "Ed25519PrivateKey":
    """Read a private key.

    Raises:
        ConfigError: no Ed25519 private key without password, or a file that others can read.
    """
    _need_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data, mode = _read_key(path)
    if mode & 0o077:
        raise ConfigError(f"{path}: a private key that others can read (mode {mode:o}): chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: not a private key in PEM without password: make one with {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}: make one with {_MAKE}")
    return key


def read_public_key(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        ConfigError: no Ed25519 public key.
    """
    _need_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    data, _ = _read_key(path)
    if b"PRIVATE KEY" in data:
        raise ConfigError(f"{path}: a private key: give the public one, and keep this to yourself")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: not a public key in PEM: give the file that {_MAKE} wrote") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: expected an Ed25519 public key, got {type(key).__name__}")
    return PublicKey(raw=key.public_bytes_raw())


def sign(manifest: bytes, key: "Ed25519PrivateKey") -> bytes:
    """Return the text of manifest.sig for the exact bytes of a manifest."""
    value = base64.b64encode(key.sign(_DOMAIN + manifest))
    return b"uavb-signature 1\nkey %s\ned25519 %s\n" % (_public_part(key).key_id.encode(), value)


def parse_signature(text: bytes, where: str) -> Signature:
    """Return what a manifest.sig says.

    Raises:
        BundleError: it differs by a byte from what `sign` would have written.
    """
    found = _TEXT.fullmatch(text)
    try:
        value = base64.b64decode(found[2], validate=True) if found is not None else b""
    except binascii.Error:
        value = b""
    if found is None or base64.b64encode(value) != found[2]:
        raise BundleError(f"{where}: not a signature of a bundle: copy the bundle again, or sign it anew")
    return Signature(key_id=found[1].decode(), value=value)


def check_signature(manifest: bytes, signature: Signature | None, trust: Trust, where: str) -> bool:
    """Say whether a manifest's signature was checked and is good; False where nobody asked.

    Raises:
        BundleError: it is missing though required, by a key that is not trusted, or false.
    """
    if signature is None:
        if trust.is_required:
            raise BundleError(f"{where}: not signed, and a signature is required: have it signed with {_SIGN}")
        return False
    if not trust.keys:
        return False
    keys = [key for key in trust.keys if key.key_id == signature.key_id]
    if not keys:
        known = ", ".join(key.key_id for key in trust.keys)
        raise BundleError(
            f"{where}: signed with key {signature.key_id}, trusted are {known}:"
            " get the bundle from who holds a trusted key, or add that key if you know whose it is"
        )
    if not any(_is_signed_by(key, manifest, signature) for key in keys):
        raise BundleError(
            f"{where}: the signature by key {signature.key_id} does not belong to this manifest: the bundle was"
            " changed after it was signed: do not use it, get it from its maker again"
        )
    return True


_MAKE = "uav-calibrate bundle keygen"
_SIGN = "uav-calibrate bundle sign"


def _is_signed_by(key: PublicKey, manifest: bytes, signature: Signature) -> bool:
    _need_library()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature.value, _DOMAIN + manifest)
    except InvalidSignature:
        return False
    return True


def _public_part(key: "Ed25519PrivateKey") -> PublicKey:
    return PublicKey(raw=key.public_key().public_bytes_raw())


def _read_key(path: Path) -> tuple[bytes, int]:
    """Return a key file's bytes and its permissions."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(opened, "rb") as stream:  # noqa: PTH123 - of a descriptor
            mode = os.fstat(opened).st_mode
            data = stream.read(_MAX_KEY_BYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): name a key file") from error
    if not data or len(data) > _MAX_KEY_BYTES:
        raise ConfigError(f"{path}: expected a key file of 1 to {_MAX_KEY_BYTES} bytes: make one with {_MAKE}")
    return data, stat.S_IMODE(mode)


def _need_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise DeviceError(
            "signatures need cryptography, which is not installed: pip install 'uav-fusion-edge[keys]'"
        ) from error
