"""Make the pictures of the pages "Read the figures" from results folders of the demo model.

The folders are written by::

    matchlens study --demo --quick --out out/pictures/study
    matchlens sweep heads --demo --pairs 64 --out out/pictures/heads
    matchlens sweep controls --demo --pairs 64 --draws 2 --direction 'Q->D' --direction 'D->Q' \
        --direction 'D->D' --out out/pictures/controls
    matchlens sweep head-sets --demo --pairs 64 --set 'nine=9.5,9.6,9.7,9.8' --direction 'Q->D' \
        --out out/pictures/head-sets
    matchlens explain --query 'why does meat brown when seared' --out out/pictures/explain \
        --passage 'When meat is seared, its surface dries out and climbs past roughly 140 C. At
        that heat amino acids react with sugars in what is called the Maillard reaction, forming
        brown pigments along with hundreds of savory aroma compounds.' \
        --passage 'It is a myth that seared meat holds in its juices. Weighing tests show a roast
        loses about as much moisture whether or not the outside is made brown first, so do not
        count on the step to give you a moist joint.'

Then ``python docs/make_pictures.py`` draws docs/pictures/read-*.png; three of them need chromium.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from matchlens import figures
from matchlens.results import Result

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import chromium  # noqa: E402

RESULTS = ROOT / "out" / "pictures"
PICTURES = ROOT / "docs" / "pictures"
SHOWN = 70
"""Percent of the size at 300 dots an inch."""
EDGE = 16
"""Pixels beside a part of a page."""
DRAWN = {
    "read-table-1": ("study", "ablation", None),
    "read-figure-1a": ("study", "sweep-up-to", None),
    "read-figure-1b": ("study", "attention", None),
    "read-figure-1c": ("study", "attention", "1c-Q-D"),
    "read-distributions": ("study", "attention", "1c-distributions-Q-D"),
    "read-lexical": ("study", "attention", "lexical"),
    "read-figure-2": ("study", "circuits", None),
    "read-hypothesis": ("study", "circuits", "shares"),
    "read-heads": ("heads", "sweep-heads", None),
    "read-head-sets": ("head-sets", "head-sets", None),
    "read-controls": ("controls", "controls", None),
}
"""Picture -> results folder, study, figure (the main one where None)."""


def main() -> None:
    """Draw every picture whose results folder is there; say which are not."""
    PICTURES.mkdir(exist_ok=True)
    for name, (folder, study, wanted) in DRAWN.items():
        if not (RESULTS / folder / "manifest.json").exists():
            print(f"{name}: no {RESULTS / folder}", file=sys.stderr)
            continue
        result = Result.load(RESULTS / folder, study)
        save(draw(result.plot(wanted)), PICTURES / f"{name}.png")
    for name, page, where, pressed, most in (
        ("read-page", "study/report.html", "body", "", 900),
        ("read-pair", "study/report.html", "#pair", "", 800),
        ("read-explain", "explain/explain.html", "#explain", "tr[data-unit='Q->D'] .unit", 880),
    ):
        if (RESULTS / page).exists() and chromium.found() is not None:
            look(RESULTS / page, name, where, pressed, most)


def look(page: Path, name: str, where: str, pressed: str, most: int) -> None:
    """Take a picture of a part of a page.

    Args:
        page: the page.
        name: the picture.
        where: the part, by its selector.
        pressed: what is pressed before, by its selector; nothing where empty.
        most: of the picture's height (px).
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium.Chromium(Path(folder), Path(folder)) as c,
    ):
        c.cdp("Emulation.setDeviceMetricsOverride", width=1100, height=900, deviceScaleFactor=1.25,
              mobile=False)  # fmt: skip
        c.open(page.as_uri())
        if pressed:
            c.run("document.querySelector(arguments[0]).click()", pressed)
        box = c.run(
            "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [r.x + scrollX, r.y + scrollY, r.width, r.height]", where
        )  # fmt: skip
        x, y, width, height = box
        left = max(x - EDGE, 0)
        clip = {"x": left, "y": y, "width": width + x - left + EDGE, "height": min(height, most)}
        clip["scale"] = 1
        taken = c.cdp("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
        save(picture, PICTURES / f"{name}.png")


def draw(figure: Figure) -> Image.Image:
    """A figure as a picture on white."""
    picture = Image.open(io.BytesIO(figures.render(figure)["png"])).convert("RGB")
    return picture.resize([side * SHOWN // 100 for side in picture.size], Image.Resampling.LANCZOS)


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture with few colours: a quarter of the bytes."""
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
