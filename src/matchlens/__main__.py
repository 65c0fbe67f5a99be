"""``python -m matchlens``, and the installed command."""

import sys

from matchlens.signals import listen


def run() -> None:
    """Run the command line and exit with its status; a Ctrl-C is heard from here on."""
    listen()
    try:
        from matchlens.cli import main
    except KeyboardInterrupt:
        print("matchlens: stopped before the end; nothing half-written was left", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    sys.exit(main())


if __name__ == "__main__":
    run()
