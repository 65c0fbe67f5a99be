"""Former place of the page's exhibits and tables."""

from matchlens.report.exhibits import Exhibit, notes_of, options_of
from matchlens.report.table import Column, Table
from matchlens.report.texts import number

__all__ = ["Column", "Exhibit", "Table", "notes_of", "number", "options_of"]
