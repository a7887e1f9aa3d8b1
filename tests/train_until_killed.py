"""What a test kills: a run that SIGKILLs itself in the middle of its third epoch, as an impatient system would."""

import os
import signal
import sys
from pathlib import Path

from training import Silent, Tones, run_config

from trainer.training.loop import fit


class Deadly(Silent):
    def on_step(self, stage, epoch, done, report):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)


fit(run_config(Path(sys.argv[1])), Tones(), "", Deadly(), resume=False)
