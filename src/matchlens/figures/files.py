"""Figures as files: SVG, PDF and PNG, byte for byte the same on every run."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.figures.page import DPI, PaperFigure, style
from matchlens.files import Folder

METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


CAPTION = {"svg": "Description", "pdf": "Subject", "png": "Description"}
"""Where a file keeps the figure's caption."""


def render(figure: Figure) -> dict[str, bytes]:
    """A figure as the content of its files.

    Equal figures give equal bytes: no date, no version, no random name is in them. Text stays
    text in the SVG; the PDF embeds its fonts (TrueType); the PNG has 300 dots an inch. The caption
    is in their metadata.

    Args:
        figure: what one of this package's functions returned.

    Returns:
        The files' content by their endings: ``svg``, ``pdf``, ``png``.
    """
    content = {}
    caption = figure.caption if isinstance(figure, PaperFigure) else ""
    with style():
        for ending, metadata in METADATA.items():
            stream = io.BytesIO()
            about = {CAPTION[ending]: caption} if caption else {}
            figure.savefig(stream, format=ending, dpi=DPI, metadata=metadata | about)
            content[ending] = stream.getvalue()
    return content


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as SVG, PDF and PNG; each file is there whole or not at all.

    Args:
        figure: what one of this package's functions returned.
        folder: where the files go; made where it does not exist.
        name: the files' name without its ending.

    Returns:
        The paths: ``.svg``, ``.pdf``, ``.png``.

    Raises:
        InputError: if the name is no file name, or the folder cannot be written.
    """
    if not name or name != Path(name).name or name.startswith("."):
        raise InputError(
            f"{name!r} cannot name a figure's files; expected a plain name such as 'up-to', "
            "without folder and without a dot in front"
        )
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Folder.open(folder) as opened:
            for ending, content in render(figure).items():
                paths.append(folder / f"{name}.{ending}")
                opened.write(paths[-1].name, content)
    except OSError as error:
        raise InputError(
            f"cannot write the figure to {str(folder)!r}: {error.strerror or error}; "
            "give a folder that can be written"
        ) from None
    return paths
