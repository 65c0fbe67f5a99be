"""Former place of the functions that format numbers."""

from matchlens.report.table import columns
from matchlens.report.texts import SHARE, digits_of, note_lines, printed

__all__ = ["SHARE", "columns", "digits_of", "note_lines", "printed"]
