import importlib.util
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from pymavlink.dialects.v20 import common

from edge.mavlink import dialect

FROZEN = {
    61200: ("FUSION_CLASSIFICATION", 81, 97),
    61202: ("FUSION_CLASS_INFO", 86, 56),
    61203: ("FUSION_STATUS", 97, 52),
}
"""Message id -> name, CRC_EXTRA, payload bytes. A change of any makes all peers drop the message without a word."""


def test_ids_names_crc_extras_and_sizes_are_frozen() -> None:
    found = {
        number: (message.msgname, message.crc_extra, message.unpacker.size)
        for number, message in dialect.mavlink_map.items()
    }

    assert found == FROZEN


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
    tree = ElementTree.parse(root / "edge" / "mavlink" / "fusion.xml")

    assert tree.findtext("include") == "common.xml"
    assert all(field.text for field in tree.iter("field"))
