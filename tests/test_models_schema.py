import contextlib
import os
import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError
from models.schema import MAX_BYTES, MAX_DEPTH, dump_yaml, load_yaml, parse_yaml
from models.spec import FusionSpec, ImageRecipe, IqRecipe, ModalitySpec, ModelSpec


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="wheel"):
    radius_m: float
    spokes: int = 0


class Track(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="track"):
    length_m: float

    def __post_init__(self) -> None:
        if self.length_m <= 0:
            raise ValueError("length_m: expected above 0")


class Rover(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    is_driving: bool = False
    drives: tuple[Wheel | Track, ...] = ()
    spare: Wheel | None = None
    limits: dict[str, float] = {}


def refusal(text: str, into: type = Rover) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text.encode(), into, "rover.yaml")
    return str(caught.value).splitlines()


def test_a_whole_document_becomes_the_struct() -> None:
    text = """
name: "7"
is_driving: true
drives:
  - {kind: wheel, radius_m: 1, spokes: 0x10}
  - kind: track
    length_m: 2.5
limits: {speed: 1_000}
"""
    assert parse_yaml(text.encode(), Rover, "rover.yaml") == Rover(
        name="7",
        is_driving=True,
        drives=(Wheel(radius_m=1.0, spokes=16), Track(length_m=2.5)),
        limits={"speed": 1000.0},
    )


def test_every_problem_is_reported_at_once_each_with_its_line() -> None:
    text = """name: 3
is_drivng: true
drives:
  - kind: wheel
    radius_m: wide
    radius_m: 2
  - kind: track
    length_m: -1
limits:
  speed: fast
"""
    assert refusal(text) == [
        "rover.yaml:1: name: expected str, got 3",
        "rover.yaml:2: is_drivng: unknown key: did you mean is_driving?",
        "rover.yaml:6: drives.0.radius_m: given twice: keep one",
        "rover.yaml:7: drives.1: length_m: expected above 0",
        "rover.yaml:10: limits.speed: expected float, got 'fast'",
    ]


def test_a_missing_key_is_named_where_its_owner_stands() -> None:
    assert refusal("name: a\nspare:\n  spokes: 3\n") == ["rover.yaml:2: spare: radius_m is missing"]


def test_an_unknown_key_without_a_near_one_lists_the_known() -> None:
    (line,) = refusal("name: a\nzzz: 1\n")
    assert line == "rover.yaml:2: zzz: unknown key: known are name, is_driving, drives, spare, limits"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{kind: leg, length_m: 1}", "drives.0.kind: expected one of wheel, track, got 'leg'"),
        ("{length_m: 1}", "drives.0.kind: expected one of wheel, track, but it is missing"),
        ("12", "drives.0: expected object, got 12"),
    ],
)
def test_an_entry_of_no_known_kind_is_refused_with_the_kinds(entry: str, message: str) -> None:
    assert refusal(f"name: a\ndrives: [{entry}]\n") == [f"rover.yaml:2: {message}"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n", "[]\n", "text\n"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert refusal(text)[0].startswith("rover.yaml:1: ")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("012", "octal"),
        ("-0_7", "octal"),
        ("1:30", "base 60"),
        ("1:30:05.5", "base 60"),
        ("no", "true or false"),
        ("On", "true or false"),
        (".nan", "finite"),
        ("-.inf", "finite"),
        ("=", "cannot be read"),
        ("9" * 5000, "cannot be read"),
    ],
)
def test_a_value_that_yaml_1_1_would_change_silently_is_refused(value: str, advice: str) -> None:
    (line,) = refusal(f"name: a\nlimits:\n  speed: {value}\n")
    assert line.startswith("rover.yaml:3: limits.speed: ")
    assert advice in line
    assert len(line) < 300


@pytest.mark.parametrize("value", ["089", "0:30", "1e3", "2024-01-01", "'012'", '"no"', "'1:30'", "y"])
def test_text_that_only_looks_like_a_number_stays_text(value: str) -> None:
    assert parse_yaml(f"name: {value}".encode(), Rover, "rover.yaml").name == value.strip("'\"")


@pytest.mark.parametrize(
    "text",
    [
        "name: &a x\nspare: *a\n",
        "name: &a [&b [x, x], &c [*b, *b], *c]\n",
        "name: a\nlimits: &a {<<: *a}\n",
    ],
)
def test_aliases_are_refused_with_their_line(text: str) -> None:
    (line,) = refusal(text)
    assert "aliases" in line


@pytest.mark.parametrize(
    "value", ["!!int ''", "!!bool x", "!!float ''", "!!binary aGk=", "!!python/name:os.system", "!x [1]", "!!set {a}"]
)
def test_tags_are_refused(value: str) -> None:
    (line,) = refusal(f"is_driving: true\nname: {value}\n")
    assert line.startswith("rover.yaml:2: tags (")


def test_nesting_is_accepted_to_the_limit_and_refused_beyond() -> None:
    class Any1(msgspec.Struct):
        a: Any

    fits = MAX_DEPTH - 1
    assert parse_yaml(f"a: {'[' * fits}{']' * fits}".encode(), Any1, "deep.yaml")
    assert "nested deeper than 32" in refusal(f"a: {'[' * (fits + 1)}{']' * (fits + 1)}", Any1)[0]
    assert "nested deeper than 32" in refusal(f"a: {'[' * 5000}", Any1)[0]


def test_a_document_larger_than_the_limit_is_refused_unread() -> None:
    assert "at most 1048576" in refusal("#" * (MAX_BYTES + 1))[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"name: [\n", "rover.yaml:2: not YAML"),
        (b"name: a\nname b\n", "rover.yaml:3: not YAML"),
        (b"name: a\n---\nname: b\n", "rover.yaml:2: not YAML: but found another document"),
        (b"name: \x00", "rover.yaml:1: not YAML"),
        (b"name: a\xff", "rover.yaml: not UTF-8 text (byte 7)"),
        (b"? {a: 1}\n: 2\nname: a", "rover.yaml:1: a key is not plain text"),
    ],
)
def test_text_that_is_not_yaml_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(data, Rover, "rover.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert parse_yaml("\ufeffname: a".encode(), Rover, "rover.yaml").name == "a"


def test_an_absent_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read \(No such file or directory\)"):
        load_yaml(tmp_path / "absent.yaml", Rover)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path, Rover)


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Any) -> None:
    (tmp_path / "rover.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"rover\.yaml: too large: at most"):
        load_yaml(tmp_path / "rover.yaml", Rover)


def test_what_is_no_regular_file_is_refused_unread(tmp_path: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(ConfigError, match=r"not a regular file\): name an existing YAML file"):
            load_yaml(path, Rover)


plain_text = st.text(max_size=20)
names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8).filter(lambda name: name != "fusion")
recipes = st.one_of(
    st.builds(IqRecipe, window_samples=st.integers(16, 1 << 20), sample_rate_hz=st.integers(1, 10**9)),
    st.builds(
        ImageRecipe,
        height_px=st.integers(8, 2048),
        width_px=st.integers(8, 2048),
        mean=st.tuples(*[st.floats(-1e6, 1e6)] * 3),
        std=st.tuples(*[st.floats(1e-30, 1e30)] * 3),
    ),
)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    labels = draw(st.lists(plain_text, min_size=2, max_size=8, unique=True))
    modalities = [
        ModalitySpec(name=name, recipe=draw(recipes), feature_size=draw(st.integers(1, 4096)))
        for name in draw(st.lists(names, min_size=2, max_size=4, unique=True))
    ]
    methods = st.sampled_from(["concat", "sum", "gated", "iemf", "entropy", "poe", "mean"])
    fusion = FusionSpec(method=draw(methods), tau=draw(st.floats(1e-6, 1e6)), floor=0.1)
    return ModelSpec(classes=tuple(labels), modalities=tuple(modalities), fusion=fusion)


@given(specs())
def test_what_is_dumped_parses_back_equal(spec: ModelSpec) -> None:
    assert parse_yaml(dump_yaml(spec), ModelSpec, "spec.yaml") == spec


@given(plain_text)
def test_any_text_survives_the_round_trip(text: str) -> None:
    rover = Rover(name=text, limits={text: 1.0})
    assert parse_yaml(dump_yaml(rover), Rover, "rover.yaml") == rover


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | plain_text | st.sampled_from(["wheel", "track"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "name", "drives", "spare", "radius_m", "limits"]) | names, children)
    ),
    max_leaves=12,
)


@given(values)
def test_any_document_fits_or_is_refused(value: Any) -> None:
    try:
        rover = parse_yaml(yaml.safe_dump(value).encode(), Rover, "rover.yaml")
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith("rover.yaml:") for line in lines)
    else:
        assert isinstance(rover, Rover)


@given(st.text("abk{}[]:,-?&*!|>'\"%@`#.0 \n\t~<=é", max_size=60))
def test_any_text_fits_or_is_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_yaml(text.encode(), Rover, "rover.yaml")


class Depot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rovers: tuple[str | Rover, ...]


def test_a_text_may_stand_where_a_struct_may() -> None:
    text = "rovers: [one, {name: other}]"

    assert parse_yaml(text.encode(), Depot, "depot.yaml").rovers == ("one", Rover(name="other"))
    assert refusal("rovers: [one, {nam: other}]", Depot) == [
        "rover.yaml:1: rovers.1.nam: unknown key: did you mean name?",
        "rover.yaml:1: rovers.1: name is missing",
    ]
