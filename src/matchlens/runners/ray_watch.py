"""A process of its own that ends what Ray has started when the driver is gone.

Ray ends its raylet with a killed driver, but not the raylet's agents. This file is run by path with
nothing but the standard library; it reads its standard input until the driver's end of that pipe
closes, which the system does however the driver ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

MARK = "MATCHLENS_RAY_DRIVER"
"""The environment variable by which Ray's processes are known."""
PATIENCE = 10.0
"""Seconds for which processes are looked for and ended."""


def marked(mark: str) -> Iterator[int]:
    """The ids of the processes that were started with the mark; Linux only."""
    wanted = f"{MARK}={mark}".encode()
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdecimal() and int(name) != os.getpid():
                with suppress(OSError), open(f"/proc/{name}/environ", "rb") as stream:
                    if wanted in stream.read().split(b"\0"):
                        yield int(name)


def main(mark: str) -> None:
    """Wait for the driver's end, then kill every marked process, and those they start meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    end, clean = time.monotonic() + PATIENCE, 0
    while clean < 2 and time.monotonic() < end:
        processes = list(marked(mark))
        clean = 0 if processes else clean + 1
        for process in processes:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
