import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from bundles import CONTENTS, MANIFEST

from models.archive import _header
from models.bundle import Bundle, GraphEntry, open_bundle, pack_bundle, write_bundle
from models.errors import BundleError

ROOT = "demo-3.uavb"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "made", MANIFEST, CONTENTS))


@pytest.fixture
def archive(bundle: Bundle, tmp_path: Path) -> Path:
    return pack_bundle(bundle, tmp_path)


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def entry(name: str, data: bytes = b"", **others: object) -> bytes:
    """Return a tar entry; `others` are fields of its header."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in others.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict") + data + bytes(-len(data) % 512)


def with_entry(bundle: Bundle, path: Path, more: bytes) -> Path:
    """Write an archive that has one entry more, after the manifest."""
    files = {**bundle.head, **bundle.contents}
    parts = [entry(f"{ROOT}/{name}", data) for name, data in files.items()]
    path.write_bytes(b"".join([*parts[:2], more, *parts[2:], bytes(1024)]))
    return path


def test_an_archive_holds_the_same_bundle(archive: Path, bundle: Bundle) -> None:
    opened = open_bundle(archive)
    assert archive.name == "demo-3.uavb.tar"
    assert (opened.sha256, opened.contents, opened.head) == (bundle.sha256, bundle.contents, bundle.head)
    assert opened.path == archive


def test_the_same_bundle_gives_the_same_archive(archive: Path, bundle: Bundle, tmp_path: Path) -> None:
    assert pack_bundle(open_bundle(archive), tmp_path / "again").read_bytes() == archive.read_bytes()


def test_any_tar_program_unpacks_it(archive: Path, bundle: Bundle, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tmp_path / "unpacked" / member.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tar.extractfile(member).read())
    assert open_bundle(tmp_path / "unpacked" / ROOT).sha256 == bundle.sha256


def test_reading_an_archive_writes_nothing(archive: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    open_bundle(archive)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "more",
    [
        entry("/etc/passwd", b"x"),
        entry("../evil", b"x"),
        entry(f"{ROOT}/../../evil", b"x"),
        entry(f"{ROOT}//evil", b"x"),
        entry(f"{ROOT}/./evil", b"x"),
        entry(f"{ROOT}/.hidden", b"x"),
        entry(f"{ROOT}/a\\b", b"x"),
        entry("evil", b"x"),
        entry(f"{ROOT}/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        entry(f"{ROOT}/link", type=tarfile.LNKTYPE, linkname=f"{ROOT}/manifest.yaml"),
        entry(f"{ROOT}/device", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry(f"{ROOT}/device", type=tarfile.BLKTYPE, devmajor=8),
        entry(f"{ROOT}/pipe", type=tarfile.FIFOTYPE),
        entry(f"{ROOT}/onnx", type=tarfile.DIRTYPE),
        entry(f"{ROOT}/tail", b"x", type=tarfile.CONTTYPE),
        entry(f"{ROOT}/long", b"x" * 300, type=tarfile.GNUTYPE_LONGNAME),
        entry(f"{ROOT}/sparse", b"x", type=tarfile.GNUTYPE_SPARSE),
        entry(f"{ROOT}/pax", b"11 path=/x\n", type=tarfile.XHDTYPE),
        entry(f"{ROOT}/suid", b"x", mode=0o4755),
        entry(f"{ROOT}/owned", b"x", uid=1000),
    ],
    ids=lambda block: block[:40].rstrip(b"\0").decode() + f" type {block[156:157].decode()}",
)
def test_an_entry_that_is_not_a_plain_file_in_the_folder_is_refused(
    bundle: Bundle, tmp_path: Path, more: bytes
) -> None:
    assert "is not a plain file as bundles are packed" in refusal(with_entry(bundle, tmp_path / "x.tar", more))


def test_an_entry_of_another_folder_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = with_entry(bundle, tmp_path / "x.tar", entry("other.uavb/a", b"x"))
    assert f"'other.uavb/a' comes twice or lies outside of {ROOT}" in refusal(path)


def test_an_entry_that_comes_twice_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    again = entry(f"{ROOT}/manifest.yaml", bundle.head["manifest.yaml"])
    assert "comes twice" in refusal(with_entry(bundle, tmp_path / "x.tar", again))


def test_a_file_that_the_manifest_does_not_list_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = with_entry(bundle, tmp_path / "x.tar", entry(f"{ROOT}/extra", b"x"))
    assert "expected golden/io.npz of 256 bytes next, found ('extra', 1)" in refusal(path)


def test_files_in_another_order_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    files = {**bundle.head, **dict(reversed(bundle.contents.items()))}
    parts = [entry(f"{ROOT}/{name}", data) for name, data in files.items()]
    (tmp_path / "x.tar").write_bytes(b"".join([*parts, bytes(1024)]))
    assert "expected golden/io.npz of 256 bytes next" in refusal(tmp_path / "x.tar")


def test_an_archive_that_does_not_begin_with_the_manifest_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    parts = [entry(f"{ROOT}/{name}", data) for name, data in {**bundle.contents, **bundle.head}.items()]
    (tmp_path / "x.tar").write_bytes(b"".join([*parts, bytes(1024)]))
    assert "does not begin with manifest.yaml, manifest.sha256" in refusal(tmp_path / "x.tar")


def test_an_archive_under_the_name_of_another_bundle_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    parts = [entry(f"other-1.uavb/{name}", data) for name, data in {**bundle.head, **bundle.contents}.items()]
    (tmp_path / "x.tar").write_bytes(b"".join([*parts, bytes(1024)]))
    assert "holds other-1.uavb, but its manifest is demo-3's" in refusal(tmp_path / "x.tar")


@pytest.mark.parametrize("name", ["manifest.yaml", "manifest.sha256", "onnx/iq.fp32.onnx"])
def test_a_size_that_lies_is_refused_before_anything_is_allocated(archive: Path, name: str) -> None:
    data = archive.read_bytes()
    place = data.index(f"{ROOT}/{name}".encode() + b"\0")
    archive.write_bytes(data[:place] + _header(f"{ROOT}/{name}", 7 << 30) + data[place + 512 :])
    text = refusal(archive)
    assert "of 7516192768 bytes, at most" in text or f"next, found ('{name}', 7516192768)" in text


@pytest.mark.parametrize("left", [0, 1, 511, 512, 700, 5000, -1024, -513, -512, -1])
def test_an_archive_that_ends_early_is_refused(archive: Path, left: int) -> None:
    os.truncate(archive, left if left >= 0 else archive.stat().st_size + left)
    assert "it ends early" in refusal(archive)


@pytest.mark.parametrize("more", [b"\0", bytes(512), b"hidden", entry(f"{ROOT}/late", b"x")])
def test_what_stands_after_the_end_is_refused(archive: Path, more: bytes) -> None:
    archive.write_bytes(archive.read_bytes() + more)
    assert "something stands after its end" in refusal(archive)


def test_what_hides_between_two_entries_is_refused(archive: Path) -> None:
    data = archive.read_bytes()
    place = data.index(f"{ROOT}/golden".encode())
    archive.write_bytes(data[: place - 1] + b"x" + data[place:])
    assert "something hides between two entries" in refusal(archive)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_archive_is_refused_unpacked(archive: Path, kind: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{kind}") as tar:
        tar.add(archive, "bomb")
    archive.write_bytes(packed.getvalue().ljust(600, b"x"))
    assert "an entry that is no tar header" in refusal(archive)


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_refused_and_does_not_hang(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.uavb.tar")
    assert "not a regular file" in refusal(tmp_path / "x.uavb.tar")


def test_a_name_that_no_tar_header_holds_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    name = f"onnx/{'x' * 120}.onnx"
    graph = GraphEntry(role="iq", precision="int8", file=name)
    manifest = msgspec.structs.replace(MANIFEST, graphs=(*MANIFEST.graphs, graph))
    bundle = open_bundle(write_bundle(tmp_path / "made", manifest, CONTENTS | {name: b"x"}))
    with pytest.raises(BundleError, match="too long for an archive"):
        pack_bundle(bundle, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
