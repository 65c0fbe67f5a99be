"""Former place of the page's definitions."""

from matchlens.report.definitions import DEFINITIONS

__all__ = ["DEFINITIONS"]
