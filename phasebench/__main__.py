"""``python -m phasebench``: manage the store, calibrate tolerances, fetch and convert files."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from phasebench.commands import calibrate, convert, fetch
from phasebench.commands import store as store_command

COMMANDS = {
    "store": (store_command, "list the stored measurements, or delete old ones"),
    "calibrate": (calibrate, "measure the numerical noise in the curves, for the tolerances of drift"),
    "fetch": (fetch, "download the language model of the bundled models"),
    "convert": (convert, "convert files of the authors' own programs into a standard folder"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name and return its exit code."""
    parser = argparse.ArgumentParser("python -m phasebench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="|".join(COMMANDS))
    for name, (module, description) in COMMANDS.items():
        command = commands.add_parser(name, help=description)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    parsed_arguments = parser.parse_args(arguments)
    # phasebench checks or reports by itself whatever transformers would warn about.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of what the machine lacks when imported
    return int(parsed_arguments.run(parsed_arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
