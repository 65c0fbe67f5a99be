"""Former place of the page's texts."""

from matchlens.report.texts import *  # noqa: F403
