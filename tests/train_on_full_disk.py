"""What a test runs on a small file system: train an epoch, fill the disk, train on, and say what came of it."""

import json
import sys
from pathlib import Path

from training import Silent, Tones, run_config

from models.errors import RecordingError
from trainer.training.loop import RESUME, fit


class Filling(Silent):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.kept = b""

    def on_epoch(self, line):
        if line["epoch"] == 0:
            self.kept = (self.folder / RESUME).read_bytes()
            with (self.folder / "filler").open("wb", buffering=0) as filler:
                try:
                    while filler.write(bytes(4096)):
                        pass
                except OSError:
                    pass
                filler.truncate(filler.tell() - 8192)  # room for the log


def main(folder):
    watcher = Filling(folder)
    try:
        fit(run_config(folder), Tones(), "", watcher, resume=False)
    except RecordingError as error:
        files = sorted(path.name for path in folder.iterdir())
        is_whole = (folder / RESUME).read_bytes() == watcher.kept
        print(json.dumps({"error": str(error), "is_first_state_whole": is_whole, "files": files}))


main(Path(sys.argv[1]))
