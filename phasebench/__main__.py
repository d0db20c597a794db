"""``python -m phasebench store`` and ``python -m phasebench calibrate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from phasebench import shelves
from phasebench.calibration import command as calibrate

COMMANDS = {
    "store": (shelves, "list what was measured and kept, or make room"),
    "calibrate": (calibrate, "measure what numerical noise does to the curves"),
}


def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit code."""
    parser = argparse.ArgumentParser("python -m phasebench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="|".join(COMMANDS))
    for name, (module, told) in COMMANDS.items():
        command = commands.add_parser(name, help=told)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    asked = parser.parse_args(arguments)
    return int(asked.run(asked))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
