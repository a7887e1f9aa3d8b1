"""`uav-edge mavlink dump-dialect`: our messages for other programs, as XML or in a language."""

import argparse
import sys
from pathlib import Path

LANGUAGES = ("xml", "c", "cpp", "csharp", "java", "javascript", "lua", "python", "swift", "wireshark")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--lang", choices=LANGUAGES, default="xml", help="in which language (default: %(default)s)")
    parser.add_argument(
        "--no-include", action="store_true", help="XML that does not ask for common.xml, for MAVSDK and the like"
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="a file, or a folder where there are several files")


def run(args: argparse.Namespace) -> int:
    """Write the definitions."""
    from edge.mavlink.wire.definitions import XML, definitions_xml, generated
    from models.errors import ConfigError

    if args.lang == XML:
        files = {Path("fusion.xml"): definitions_xml(has_include=not args.no_include).encode()}
    else:
        files = generated(args.lang)
    if len(files) > 1 and args.out is None:
        raise ConfigError(f"--lang {args.lang} makes {len(files)} files: expected --out FOLDER")
    if args.out is None:
        sys.stdout.write(next(iter(files.values())).decode())
    elif len(files) == 1:
        args.out.write_bytes(next(iter(files.values())))
    else:
        for name, content in files.items():
            (args.out / name).parent.mkdir(parents=True, exist_ok=True)
            (args.out / name).write_bytes(content)
    return 0
