"""Former place of the results folder."""

from matchlens.report.results_folder import ResultsFolder, Row

__all__ = ["ResultsFolder", "Row"]
