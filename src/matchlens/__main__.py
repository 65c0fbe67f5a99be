"""``python -m matchlens``."""

from matchlens.cli import run

run()
