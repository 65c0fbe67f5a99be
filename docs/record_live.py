"""Record the live page for docs/read/live.md: a short sequence of pictures of the real thing.

``make pictures`` runs it; it serves the demo model, drives it in chromium, and writes
docs/pictures/live-*.png.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import matchlens

sys.path.insert(0, str(Path(__file__).parent))

from make_pictures import PICTURES, chromium, save

WIDTH, HEIGHT = 1240, 720
PATIENCE = 300.0
SCORED = (
    "!document.querySelector('#rows.stale') && document.querySelector('.row .value').textContent"
)
FOLLOWED = (
    f"{SCORED} && document.querySelector('#view .mlv') && !document.querySelector('.cuts.old') "
    "&& document.getElementById('status').hidden && !document.getAnimations().length"
)


def until(browser: chromium.Chromium, script: str) -> None:
    """Wait for something to be true of the page."""
    end = time.monotonic() + PATIENCE
    while not browser.run(f"return {script}"):
        if time.monotonic() > end:
            raise TimeoutError(script)
        time.sleep(0.1)


def picture(browser: chromium.Chromium, name: str, where: str = "") -> None:
    """Take a picture of the window, or of the page from an element on."""
    browser.run(
        "scrollTo({top: arguments[0] ? document.querySelector(arguments[0])"
        ".getBoundingClientRect().top + scrollY - 12 : 0, behavior: 'instant'})",
        where,
    )
    until(browser, "!document.getAnimations().length")
    taken = base64.b64decode(browser.call("/screenshot", method="GET"))
    save(Image.open(io.BytesIO(taken)).convert("RGB"), PICTURES / f"live-{name}.png")
    print(f"live-{name}: {browser.run('return document.getElementById(`said`).textContent')}")


def main() -> None:
    """Record the sequence."""
    pairs = matchlens.choose(matchlens.demo.load())
    with (
        matchlens.serve("demo", pairs) as page,
        tempfile.TemporaryDirectory() as folder,
        chromium.Chromium(Path(folder), Path(folder)) as browser,
    ):
        browser.cdp("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT,
                    deviceScaleFactor=1, mobile=False)  # fmt: skip
        browser.open(page.url)
        until(browser, FOLLOWED)
        picture(browser, "1-start")
        press = "document.querySelectorAll(arguments[0])[arguments[1]].click()"
        browser.run(press, "#sets button", 0)
        until(browser, FOLLOWED)
        picture(browser, "2-cut")
        browser.run(press, "#undo", 0)
        until(browser, FOLLOWED)
        browser.run(press, "#swap", 0)
        until(browser, f"document.getElementById('text').value && {FOLLOWED}")
        picture(browser, "3-swap")
        browser.run(press, "#undo", 0)
        until(browser, FOLLOWED)
        browser.run(press, "#why", 0)
        until(browser, f"document.querySelectorAll('#view .say').length === 2 && {FOLLOWED}")
        browser.run("document.querySelector(\"#view tr[data-unit='Q->D']\").click()")
        picture(browser, "4-words", ".why")
        browser.run(
            "const node = document.querySelector('.row textarea'); node.focus();"
            "node.value = node.value.replace('seared meat', 'grilled fish');"
            "node.dispatchEvent(new Event('input'))"
        )
        until(browser, f"!document.querySelector('.row .diff').hidden && {FOLLOWED}")
        picture(browser, "5-edit")


if __name__ == "__main__":
    main()
