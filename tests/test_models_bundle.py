import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundles import CONTENTS, MANIFEST, SPEC
from mutate_bundle import signed_bundle, taken_mutations

from models.bundle import Bundle, GraphEntry, open_bundle, pack_bundle, write_bundle
from models.errors import BundleError

BIG = "".join(f"  big{n}:\n    sha256: ''\n    size_bytes: {1 << 30}\n" for n in range(3))
MUTATIONS = 300  # as tests/mutate_bundle.py, which does 10,000


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path, MANIFEST, CONTENTS)


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def rewrite_manifest(bundle: Path, change: Callable[[str], str]) -> None:
    """Change the manifest and its sidecar together, as someone would who knows the format."""
    text = change((bundle / "manifest.yaml").read_text()).encode()
    (bundle / "manifest.yaml").write_bytes(text)
    (bundle / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest() + "\n")


def test_what_was_written_is_read_back(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert bundle.name == "demo-3.uavb"
    assert opened.contents == CONTENTS
    assert opened.spec == SPEC
    assert opened.graph("image") == CONTENTS["onnx/image.fp32.onnx"]
    assert opened.graph("fusion") == CONTENTS["onnx/fusion.fp32.onnx"]
    assert opened.sha256 == hashlib.sha256((bundle / "manifest.yaml").read_bytes()).hexdigest()
    assert msgspec.structs.replace(opened.manifest, files={}) == MANIFEST
    assert set(opened.manifest.files) == set(CONTENTS)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_bundle(tmp_path / name, MANIFEST, CONTENTS) for name in "ab")
    assert (first / "manifest.yaml").read_bytes() == (second / "manifest.yaml").read_bytes()


def test_the_graph_made_for_the_machine_and_the_batch_is_taken(tmp_path: Path) -> None:
    kinds = [("int8", "any", "any"), ("int8", "trt", "any"), ("int8", "trt", "one"), ("fp16", "any", "one")]
    more = {f"onnx/iq.{'.'.join(kind)}.onnx": "/".join(kind).encode() for kind in kinds}
    entries = tuple(
        GraphEntry(role="iq", precision=precision, target=target, batch=batch, file=file)
        for (precision, target, batch), file in zip(kinds, more, strict=True)
    )
    manifest = msgspec.structs.replace(MANIFEST, graphs=MANIFEST.graphs + entries)
    opened = open_bundle(write_bundle(tmp_path, manifest, CONTENTS | more))
    assert opened.graph("iq", "int8", "trt") == b"int8/trt/one"
    assert opened.graph("iq", "int8", "trt", batch="any") == b"int8/trt/any"
    assert opened.graph("iq", "int8", "cpu-x86") == b"int8/any/any"
    assert opened.graph("iq", "fp16", "trt") == b"fp16/any/one"
    with pytest.raises(BundleError, match="no graph of iq in fp16 for trt, batch any"):
        opened.graph("iq", "fp16", "trt", batch="any")
    with pytest.raises(BundleError, match="no graph of image in int8"):
        opened.graph("image", "int8", "cpu-x86")


def test_what_is_in_memory_survives_the_loss_of_the_folder(bundle: Path) -> None:
    opened: Bundle = open_bundle(bundle)
    (bundle / "onnx/iq.fp32.onnx").unlink()
    assert opened.graph("iq") == CONTENTS["onnx/iq.fp32.onnx"]


def test_an_older_bundle_of_the_same_title_is_replaced_whole(bundle: Path) -> None:
    rewritten = write_bundle(bundle.parent, MANIFEST, CONTENTS | {"onnx/iq.fp32.onnx": b"new"})
    assert rewritten == bundle
    assert open_bundle(bundle).graph("iq") == b"new"
    assert [path.name for path in bundle.parent.iterdir()] == ["demo-3.uavb"]


@pytest.mark.parametrize("is_archive", [False, True])
def test_any_changed_or_missing_byte_is_refused(tmp_path: Path, is_archive: bool) -> None:
    path, trust = signed_bundle(tmp_path)
    path = pack_bundle(open_bundle(path), tmp_path) if is_archive else path
    assert taken_mutations(path, trust, MUTATIONS, seed=11) == []


@pytest.mark.parametrize("name", ["onnx/iq.fp32.onnx", "golden/io.npz", "manifest.yaml", "manifest.sha256"])
def test_a_truncated_file_is_refused(bundle: Path, name: str) -> None:
    os.truncate(bundle / name, (bundle / name).stat().st_size - 1)
    assert name.removesuffix(".sha256") in refusal(bundle)


@pytest.mark.parametrize("name", ["onnx/iq.fp32.onnx", "golden/io.npz", "manifest.yaml", "manifest.sha256"])
def test_a_lengthened_file_is_refused(bundle: Path, name: str) -> None:
    with (bundle / name).open("ab") as stream:
        stream.write(b"\n")
    assert name.removesuffix(".sha256") in refusal(bundle)


@pytest.mark.parametrize("name", ["onnx/iq.fp32.onnx", "manifest.yaml", "manifest.sha256"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert f"{name}: cannot be read (No such file or directory)" in refusal(bundle)


@pytest.mark.parametrize("name", ["extra.txt", "onnx/iq.int8.onnx", ".hidden"])
def test_a_file_that_the_manifest_does_not_list_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"")
    assert f"does not list: {name}" in refusal(bundle)


@pytest.mark.parametrize("name", ["onnx/iq.fp32.onnx", "manifest.yaml", "onnx"])
def test_a_symbolic_link_is_refused_even_to_the_right_content(bundle: Path, name: str) -> None:
    elsewhere = bundle.parent / "elsewhere"
    (bundle / name).rename(elsewhere)
    (bundle / name).symlink_to(elsewhere)
    message = refusal(bundle)
    assert "symbolic link" in message or "does not list: onnx" in message


def test_a_pipe_in_place_of_a_file_does_not_hang(bundle: Path) -> None:
    (bundle / "golden/io.npz").unlink()
    os.mkfifo(bundle / "golden/io.npz")
    assert "golden/io.npz: not a regular file" in refusal(bundle)


def test_a_link_to_the_whole_bundle_is_followed(bundle: Path) -> None:
    link = bundle.parent / "current.uavb"
    link.symlink_to(bundle)
    assert open_bundle(link).contents == CONTENTS


def test_an_absent_bundle_is_named_with_what_to_name(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path / "x.uavb") == f"{tmp_path}/x.uavb: no such bundle folder: name a <name>-<version>.uavb folder"
    )


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "onnx/../../evil", "a//b", "./a", "", ".hidden", "a\\nb"])
def test_a_file_name_that_leaves_the_folder_is_refused(bundle: Path, name: str) -> None:
    rewrite_manifest(bundle, lambda text: text.replace("golden/io.npz:", f'"{name}":'))
    assert "expected a plain relative path" in refusal(bundle)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil"])
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="expected a plain relative path"):
        write_bundle(tmp_path / "bundles", MANIFEST, CONTENTS | {name: b"x"})
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_another_release_says_so_before_anything_else(bundle: Path) -> None:
    rewrite_manifest(bundle, lambda text: text.replace("schema: 1", "schema: 2\nquantization: int8"))
    assert "schema 2: this runtime reads 1" in refusal(bundle)
    assert "unknown key" not in refusal(bundle)


def test_a_manifest_that_is_changed_with_the_hashes_of_its_files_fails_on_its_own_hash(bundle: Path) -> None:
    new = b"another graph, well hashed"
    old = CONTENTS["onnx/iq.fp32.onnx"]
    text = (bundle / "manifest.yaml").read_text()
    text = text.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
    text = text.replace(f"size_bytes: {len(old)}", f"size_bytes: {len(new)}", 1)
    (bundle / "manifest.yaml").write_text(text)
    (bundle / "onnx/iq.fp32.onnx").write_bytes(new)
    assert "manifest.yaml: expected SHA-256" in refusal(bundle)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("role: image", "role: iq", "graphs: 3 entries of 2 kinds"),
        ("role: image", "role: imago", "graph roles ['imago'] are unknown, FP32 graphs for ['image'] are missing"),
        ("approved: {}", "approved: {trt: {iq: int8}}", "approved for trt: iq in int8, for which there is no graph"),
        ("file: onnx/iq.fp32.onnx", "file: onnx/other.onnx", "graphs without a file entry: ['onnx/other.onnx']"),
        ("size_bytes: 256", "size_bytes: -1", "at most 1073741824"),
        ("size_bytes: 256", "size_bytes: 99999999999", "at most 1073741824"),
        (
            "size_bytes: 256",
            "size_bytes: 256\n" + BIG,
            "7 files of 3221226378 bytes: expected at most 1000, of 2147483648",
        ),
        ("golden/io.npz:", "manifest.sig:", "file name 'manifest.sig': expected a plain relative path, none of"),
        ("precision: fp32", "precision: fp8", "precision"),
        ("name: demo", "name: ../demo", "name '../demo': expected letters, digits"),
        ("version: 3", "version: -3", "version is -3: expected 0 or more"),
        ("temperature: 1.0", "temperature: 0.0", "temperature is 0.0: expected a positive number"),
        ("name: demo", "nam: demo", "manifest.yaml:2: nam: unknown key: did you mean name?"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(bundle: Path, old: str, new: str, message: str) -> None:
    rewrite_manifest(bundle, lambda text: text.replace(old, new, 1))
    assert message in refusal(bundle)


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    unreadable: Any = msgspec.structs.replace(MANIFEST, metrics={"accuracy": float("nan")})
    with pytest.raises(BundleError, match=r"metrics\.accuracy: expected a finite number"):
        write_bundle(tmp_path, unreadable, CONTENTS)
    assert list(tmp_path.iterdir()) == []
