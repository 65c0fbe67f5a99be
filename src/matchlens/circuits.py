"""Old import path of the query-key algebra, which is the package :mod:`matchlens.qk` now."""

from __future__ import annotations

import warnings


def __getattr__(name: str) -> object:
    if name.startswith("__"):  # the import system asks for these
        raise AttributeError(name)
    from matchlens import qk

    if name not in qk.__all__:
        raise AttributeError(f"module 'matchlens.circuits' has no attribute {name!r}")
    words = f"matchlens.circuits.{name} is now matchlens.qk.{name}"
    warnings.warn(words, DeprecationWarning, stacklevel=2)
    return getattr(qk, name)
