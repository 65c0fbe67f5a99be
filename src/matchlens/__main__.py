"""``python -m matchlens``, and the installed command."""

import sys

from matchlens import signals


def run() -> None:
    """Run the command line and exit with its status."""
    signals.listen(signals.end)
    from matchlens.cli import main

    signals.listen()
    sys.exit(main())


if __name__ == "__main__":
    run()
