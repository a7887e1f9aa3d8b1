"""`uav-edge`: the onboard runtime's command line. Thin: each command is a module under `edge/commands/`."""

import sys
from collections.abc import Sequence

from models.command_line import run_command_line

ABOUT = "Fuse radio and image on board, and say over MAVLink what the vehicle is looking at."
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("edge.commands.run", "fly: start sources, pipeline, MAVLink and recorder, and keep them running"),
    "pipeline": ("edge.commands.pipeline", "run the pipeline alone, in this process"),
    "demo": ("edge.commands.demo", "a synthetic flight from sensors to a ground station, with a report"),
    "source": ("edge.commands.source", "publish one sensor's stream: synthetic, camera, video, radio or recording"),
    "mavlink": ("edge.commands.mavlink", "publish the pipeline's answers over MAVLink"),
    "ground": ("edge.commands.ground", "a small ground station: show what arrives over MAVLink, and count the gaps"),
    "record": ("edge.commands.record", "record every stream, the results and the poses of a deployment"),
    "import": ("edge.commands.import_", "compose a recording from radio recordings, images or video, and a flight log"),
    "info": ("edge.commands.info", "show what a recording holds, and what of it is damaged"),
    "recording": ("edge.commands.recording", "check, repair, cut, merge and export recordings"),
    "replay": ("edge.commands.replay", "replay a recording through the pipeline, live or exact"),
    "regress": ("edge.commands.regress", "recorded flights with a new model, held against an old one"),
    "judge": ("edge.commands.judge", "whether a recorded flight kept what is promised of every flight"),
    "selfcheck": ("edge.commands.selfcheck", "check this installation, and with --device its GPU, plans and times"),
    "bench": ("edge.commands.bench", "measure latency in real processes, beside the floor of this machine"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    return run_command_line("uav-edge", ABOUT, COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
