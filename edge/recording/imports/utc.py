"""Points in time as people and programs write them: ISO 8601, EXIF, seconds since 1970, the names of files."""

import datetime
import re

NS_PER_S = 1_000_000_000
_TEXT = re.compile(
    r"(\d{4})[-:](\d\d)[-:](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,12}))? ?(Z|[+-]\d\d:?\d\d)?", re.IGNORECASE
)
_SECONDS = re.compile(r"(\d{1,10})(?:\.(\d{1,12}))?|(\d{10})(\d{3}|\d{6}|\d{9})")
_IN_NAME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[-:.]?(\d\d)[-:.]?(\d\d)(?:[._,-]?(\d{3,9})(?!\d))?")
_EPOCH_IN_NAME = re.compile(r"(?<!\d)(\d{10})(?:[._](\d{1,9})|(\d{3}|\d{6}|\d{9}))?(?!\d)")


def parse_utc(text: str) -> int | None:
    """Return the nanoseconds since 1970 that a text says, None where it is no time; without a zone it is UTC.

    A number counts seconds, with 13, 16 or 19 digits milli-, micro- or nanoseconds.
    """
    text = text.strip()
    if found := _TEXT.fullmatch(text):
        return _from_calendar(found.groups()[:6], found[7], found[8])
    if found := _SECONDS.fullmatch(text):
        return int(found[1] or found[3]) * NS_PER_S + _fraction_ns(found[2] or found[4])
    return None


def utc_in_name(name: str) -> int | None:
    """Return the time that a file's name tells, such as IMG_20260131_142530_250 or 1769869530.250; None without one."""
    for spelt in _IN_NAME.finditer(name):
        time_ns = _from_calendar(spelt.groups()[:6], spelt[7], None)
        if time_ns is not None:
            return time_ns
    if found := _EPOCH_IN_NAME.search(name):
        return int(found[1]) * NS_PER_S + _fraction_ns(found[2] or found[3])
    return None


def utc_text(time_ns: int) -> str:
    """Return a time as a person reads it, to the millisecond."""
    seconds, rest_ns = divmod(time_ns, NS_PER_S)
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}Z"


def _from_calendar(fields: tuple[str, ...], fraction: str | None, zone: str | None) -> int | None:
    try:
        moment = datetime.datetime(*map(int, fields), tzinfo=datetime.timezone.utc)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    seconds = round((moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)).total_seconds())
    return (seconds - _zone_s(zone)) * NS_PER_S + _fraction_ns(fraction)


def _zone_s(zone: str | None) -> int:
    if zone is None or zone in "zZ":
        return 0
    digits = zone[1:].replace(":", "")
    return int(zone[0] + "1") * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)


def _fraction_ns(digits: str | None) -> int:
    return int((digits or "0").ljust(9, "0")[:9])
