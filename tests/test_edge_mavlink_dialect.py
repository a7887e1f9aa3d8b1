import importlib.util
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mavlink_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymavlink.dialects.v20 import common

from edge.cli import main
from edge.commands.mavlink_dump_dialect import LANGUAGES
from edge.mavlink.wire import codec, dialect
from edge.mavlink.wire.definitions import GENERATORS, XML

FROZEN = {
    61200: ("FUSION_CLASSIFICATION", 81, 97),
    61201: ("FUSION_CLASSIFICATION_LITE", 190, 19),
    61202: ("FUSION_CLASS_INFO", 86, 56),
    61203: ("FUSION_STATUS", 97, 52),
}
"""Message id -> name, CRC_EXTRA, payload bytes. A change of any makes all peers drop the message without a word."""
LAYOUTS = {
    61200: "<QIIiiiI4H4H4H4HHHHBBB4H16s",
    61201: "<IiiHBBBBB",
    61202: "<IHH48s",
    61203: "<QIIIIIIIi4HHBB",
}
"""Payloads as the wire has them, written down by hand."""
GOLDEN = {
    61200: (
        (
            900_000,
            7,
            0x0BADC0DE,
            473_977_400,
            85_455_900,
            400_000,
            5_000,
            1,
            2,
            0,
            65_535,
            7_500,
            2_000,
            500,
            65_535,
            2_500,
            2_500,
            65_535,
            65_535,
            5_000,
            5_000,
            0,
            0,
            6_257,
            66,
            16,
            3,
            3,
            0,
            0,
            0,
            0,
            0,
            b"drone",
        ),
        "fd5600000903bf10ef00a0bb0d000000000007000000dec0ad0b3852401c1cf41705801a060088130000010002000000ffff4c1dd007"
        "f401ffffc409c409ffffffff8813881300000000711842001000030300000000000000000064726f6e65",
    ),
    61201: (
        (900, -337_977_400, 2**31 - 1, 2, 255, 75, 3, 6, 40),
        "fd1300000903bf11ef0084030000c8dfdaebffffff7f0200ff4b030628",
    ),
    61202: ((0x0BADC0DE, 1, 3, b"drone"), "fd0d00000903bf12ef00dec0ad0b0100030064726f6e65"),
    61203: (
        (5, 0x0BADC0DE, 200, 10, 0, 3, 50_000, 2**32 - 1, -12_345, 10_000, 2_997, 0, 0, 5_000, 4, 0),
        "fd3300000903bf13ef000500000000000000dec0ad0bc80000000a0000000000000003000000 50c30000ffffffffc7cfffff"
        "1027b50b00000000881304",
    ),
}
"""Field values in the order of the wire, and the frame that they are, from component 3/191, without its CRC."""


def test_ids_names_crc_extras_and_sizes_are_frozen() -> None:
    found = {
        number: (message.msgname, message.crc_extra, message.unpacker.size)
        for number, message in dialect.mavlink_map.items()
    }

    assert found == FROZEN


def unpacked(frame: bytes, number: int) -> tuple:
    """Take a frame apart without pymavlink: marker, lengths, ids, CRC, then the fields."""
    _, crc_extra, size = FROZEN[number]
    parts = samples.decode_frame(frame, crc_extra, size)
    assert (parts.system_id, parts.component_id, parts.message_id) == (3, 191, number)
    fields = struct.unpack(LAYOUTS[number], parts.payload)
    return tuple(field.rstrip(b"\0") if isinstance(field, bytes) else field for field in fields)


def packed(number: int, values: tuple) -> bytes:
    """Return the frame that pymavlink makes of values in the order of the wire."""
    message = dialect.mavlink_map[number]
    names, at = message.ordered_fieldnames, 0
    fields = {}
    for name, length in zip(names, message.array_lengths, strict=True):
        is_text = isinstance(values[at], bytes)
        count = 1 if is_text else max(length, 1)
        fields[name] = values[at] if count == 1 else list(values[at : at + count])
        at += count
    encoder = dialect.MAVLink(None, srcSystem=3, srcComponent=191)
    encoder.seq = 9
    return bytes(message(**fields).pack(encoder))


@pytest.mark.parametrize("number", FROZEN)
def test_every_message_is_the_golden_bytes_and_they_are_read_without_pymavlink(number: int) -> None:
    values, golden = GOLDEN[number]
    frame = packed(number, values)

    assert frame[:-2].hex() == golden.replace(" ", "")
    assert unpacked(frame, number) == values


@pytest.mark.parametrize("number", FROZEN)
@given(data=st.data())
def test_every_value_that_a_field_holds_survives_the_wire(number: int, data: st.DataObject) -> None:
    values = []
    for count, code in re.findall(r"(\d*)([a-zA-Z])", LAYOUTS[number]):
        if code == "s":
            values.append(data.draw(st.binary(max_size=int(count)).filter(lambda text: b"\0" not in text)))
            continue
        bits = 8 * struct.calcsize(code)
        low, high = (0, 2**bits - 1) if code.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        values += [data.draw(st.integers(low, high)) for _ in range(int(count or 1))]

    assert unpacked(packed(number, tuple(values)), number) == tuple(values)


@pytest.mark.parametrize("number", FROZEN)
def test_zeros_at_the_end_are_cut_to_one_byte_and_come_back(number: int) -> None:
    zeros = tuple(b"" if isinstance(value, bytes) else 0 for value in GOLDEN[number][0])
    frame = packed(number, zeros)

    assert len(frame) == 10 + 1 + 2
    assert unpacked(frame, number) == zeros


def test_payloads_fit_a_frame_and_a_tunnel() -> None:
    assert max(size for _, _, size in FROZEN.values()) <= 128
    assert 6 * FROZEN[61201][2] <= 128, "six short ones travel together"


def test_flags_are_the_bits_that_peers_know() -> None:
    bits = [entry.name.removeprefix("FUSION_FLAGS_") for _, entry in sorted(dialect.enums["FUSION_FLAGS"].items())]
    named = [flag.name for flag in codec.Flag]

    assert bits[:-1] == named
    assert [int(flag) for flag in codec.Flag] == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_our_ids_are_free_in_common_and_fit_the_commands_that_name_them() -> None:
    assert not set(FROZEN) & set(common.mavlink_map)
    assert max(FROZEN) <= 65_535


def test_the_committed_dialect_is_the_one_that_the_xml_makes(root: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.py"
    subprocess.run([sys.executable, root / "launch" / "make-dialect", made], check=True, capture_output=True)
    spec = importlib.util.spec_from_file_location("made", made)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def layout(messages: dict) -> dict:
        return {
            number: (message.msgname, message.crc_extra, message.unpacker.format, message.ordered_fieldnames)
            for number, message in messages.items()
        }

    assert layout(dialect.mavlink_map) == layout(module.mavlink_map)
    assert {n: entry.name for n, entry in dialect.enums["FUSION_FLAGS"].items()} == {
        n: entry.name for n, entry in module.enums["FUSION_FLAGS"].items()
    }


@pytest.mark.parametrize(("name", "crc_extra"), [("HEARTBEAT", 50), ("STATUSTEXT", 83), ("NAMED_VALUE_FLOAT", 170)])
def test_the_installed_pymavlink_has_the_standard_messages_as_specified(name: str, crc_extra: int) -> None:
    message = next(message for message in common.mavlink_map.values() if message.msgname == name)

    assert message.crc_extra == crc_extra


def test_the_xml_names_its_base_dialect_and_describes_every_field(root: Path) -> None:
    tree = ElementTree.parse(root / "edge" / "mavlink" / "wire" / "fusion.xml")

    assert tree.findtext("include") == "common.xml"
    assert all(field.text for field in tree.iter("field"))


def dumped(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["mavlink", "dump-dialect", *options]) == 0
    return capsys.readouterr().out


def test_the_xml_is_printed_as_it_is_and_without_what_it_builds_upon(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = dumped(capsys)
    alone = dumped(capsys, "--no-include")

    assert text == (root / "edge" / "mavlink" / "wire" / "fusion.xml").read_text()
    assert ElementTree.fromstring(alone).find("include") is None
    assert set(text.splitlines()) - set(alone.splitlines()) == {"  <include>common.xml</include>"}


@pytest.mark.parametrize(
    ("language", "text"),
    [("wireshark", "Proto("), ("python", "MAVLink_fusion_classification_lite_message"), ("javascript", "61201")],
)
def test_a_language_of_one_file_is_printed(capsys: pytest.CaptureFixture[str], language: str, text: str) -> None:
    assert text in dumped(capsys, "--lang", language)


@pytest.mark.parametrize(
    ("language", "file"), [("c", "mavlink_msg_fusion_status.h"), ("lua", "mavlink_msg_FUSION_STATUS.lua")]
)
def test_a_language_of_many_files_fills_a_folder(tmp_path: Path, language: str, file: str) -> None:
    assert main(["mavlink", "dump-dialect", "--lang", language, "--out", str(tmp_path / "made")]) == 0

    (found,) = (tmp_path / "made").rglob(file)
    assert "fusion" in found.read_text().lower()


def test_a_generator_that_fails_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(GENERATORS, "lua", "Latin")

    assert main(["mavlink", "dump-dialect", "--lang", "lua"]) == 2
    assert "made nothing" in capsys.readouterr().err


def test_many_files_without_a_folder_are_refused_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mavlink", "dump-dialect", "--lang", "c"]) == 2
    assert "expected --out FOLDER" in capsys.readouterr().err


def test_the_xml_goes_into_a_file(tmp_path: Path) -> None:
    assert main(["mavlink", "dump-dialect", "--no-include", "--out", str(tmp_path / "fusion.xml")]) == 0

    assert ElementTree.parse(tmp_path / "fusion.xml").find("include") is None


def test_the_command_knows_the_languages_that_can_be_made() -> None:
    assert list(LANGUAGES) == [XML, *GENERATORS]
