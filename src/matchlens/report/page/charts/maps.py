"""Former place of the page's maps."""

from matchlens.report.charts import head_map, level

__all__ = ["head_map", "level"]
