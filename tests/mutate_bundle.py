"""Damages every file of a signed bundle, bit by bit and cut by cut, and counts what is taken all the same.

python tests/mutate_bundle.py [COUNT]     prints one line of JSON; 10,000 take about a minute
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from bundles import CONTENTS, MANIFEST

from models.bundle import add_signature, open_bundle, pack_bundle, write_bundle
from models.errors import BundleError
from models.manifest import MANIFEST_FILE
from models.signature import Trust, make_keys, read_private_key, read_trust, sign


def signed_bundle(folder: Path) -> tuple[Path, Trust]:
    """Return a signed bundle in a folder, and trust in its key."""
    make_keys(folder / "key", folder / "key.pub")
    path = write_bundle(folder, MANIFEST, CONTENTS)
    bundle = open_bundle(path)
    add_signature(bundle, sign(bundle.head[MANIFEST_FILE], read_private_key(folder / "key")))
    return path, read_trust([folder / "key.pub"], is_required=True)


def taken_mutations(path: Path, trust: Trust, count: int, seed: int) -> list[str]:
    """Return the mutations under which a bundle, a folder or an archive, was still opened.

    Every file has the same chance, whatever its size; one in four is cut short, the others lose or gain a bit.
    """
    source = random.Random(seed)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    taken = []
    for _ in range(count):
        file = source.choice(files)
        original = file.read_bytes()
        place = source.randrange(len(original))
        if source.random() < 0.25:
            changed, what = original[:place], f"{file.name} cut to {place} bytes"
        else:
            bit = 1 << source.randrange(8)
            changed = original[:place] + bytes([original[place] ^ bit]) + original[place + 1 :]
            what = f"{file.name} byte {place} bit {bit}"
        file.write_bytes(changed)
        try:
            open_bundle(path, trust)
            taken.append(what)
        except BundleError:
            pass
        file.write_bytes(original)
    open_bundle(path, trust)
    return taken


def main() -> None:
    """Do it to a folder and to an archive."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder, trust = signed_bundle(Path(name))
        archive = pack_bundle(open_bundle(folder), Path(name))
        for path in (folder, archive):
            started_s = time.monotonic()
            taken = taken_mutations(path, trust, count, seed=7)
            row = {"bundle": path.name, "mutations": count, "taken": taken}
            print(json.dumps({**row, "seconds": round(time.monotonic() - started_s, 1)}))


if __name__ == "__main__":
    main()
