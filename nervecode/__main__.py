"""`nervecode` and `python -m nervecode`."""

from __future__ import annotations

import sys

from nervecode.errors import MissingExtraError, need_lab


def main() -> None:
    """Run the command line, where what it needs is installed."""
    try:
        need_lab("the command nervecode")
    except MissingExtraError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    from nervecode.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
