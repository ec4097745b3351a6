"""Nervecode: how surprising is an input to a network itself, layer by layer, in bits?

Usage: nervecode [OPTIONS] COMMAND [ARGS]...
"""

from __future__ import annotations

import sys

from nervecode import __version__
from nervecode.errors import MissingExtraError, need_lab


def main() -> None:
    """Run the command line, where what it needs is installed."""
    try:
        need_lab("the command nervecode")
    except MissingExtraError as error:
        if sys.argv[1:] == ["--version"]:
            print(f"nervecode {__version__}")
            return
        if sys.argv[1:] in (["--help"], ["-h"]):
            print(f"{__doc__}\n\n{error}")
            return
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    from nervecode.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
