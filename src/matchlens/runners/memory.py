"""What to do where memory runs out: smaller batches."""

from __future__ import annotations

import torch

SAID = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What errors of memory say that have no type of their own, in small letters."""


class Budget:
    """Most places of one layer call, as far as memory has shown; shared by the runs of a process.

    >>> budget = Budget()
    >>> budget.lower(512)
    >>> budget.of(2048), budget.of(256)
    (512, 256)
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def of(self, asked: int) -> int:
        """What is used of what was asked for."""
        return asked if self.most is None else min(asked, self.most)

    def lower(self, most: int) -> None:
        """Use no more than so many places from now on."""
        self.most = most


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), (
    ...     out_of_memory(RuntimeError("shapes differ")))
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in SAID)
