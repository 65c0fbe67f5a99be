"""Headless Chromium, driven over the WebDriver protocol by Debian's chromedriver; no network."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--hide-scrollbars",
)
LONG = 180
"""Seconds that a busy machine may take for what is done at once on a quiet one."""
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def found() -> tuple[str, str] | None:
    """The browser and its driver; None where one is not installed."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def wait(holds: Callable[[], object], what: str = "") -> None:
    """Wait until something holds; fail where it does not in a long time."""
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Chromium:
    """A browser with one window; use it as a context."""

    def __init__(self, profile: Path, downloads: Path, *, flags: tuple[str, ...] = ()) -> None:
        programs = found()
        assert programs is not None
        browser, driver = programs
        self.session = ""
        self.process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            self.base = f"http://127.0.0.1:{self._port()}"
            options = {
                "binary": browser,
                "args": [*FLAGS, *flags, f"--user-data-dir={profile}"],
                "prefs": {"download.default_directory": str(downloads)},
            }
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            opened = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self.session = f"/session/{opened['sessionId']}"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and its driver."""
        if self.session:
            with contextlib.suppress(OSError, urllib.error.URLError):
                self._call("DELETE", self.session)
        self.process.terminate()
        self.process.communicate(timeout=LONG)

    def _port(self) -> int:
        """The port that the driver has chosen and listens on; it prints little after this line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.search(r"started successfully on port (\d+)", line):
                return int(match[1])
        raise RuntimeError("chromedriver did not start")

    def _call(self, method: str, path: str, body: object = None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=LONG) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def call(self, path: str, body: object = None, method: str = "POST"):
        """A command of the session."""
        return self._call(method, self.session + path, body)

    def open(self, address: str) -> None:
        self.call("/url", {"url": address})

    def run(self, script: str, *arguments: object):
        """A script's value; elements are passed and returned as WebDriver has them."""
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def cdp(self, command: str, **parameters: object):
        """A command of the browser's own protocol."""
        return self.call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind: str) -> list[dict]:
        """What the browser has logged since it was last asked: ``browser`` or ``performance``."""
        return self.call("/se/log", {"type": kind})

    def unhurt(self, *ours: str) -> list[str]:
        """See that no error was logged, only our addresses asked for, no stranger's script run."""
        assert self.log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in sent]
        assert all(one.startswith((*ours, "data:,", "chrome:")) for one in addresses), addresses
        assert not [event for event in events if event["method"] == "Runtime.exceptionThrown"]
        strange = "document.querySelectorAll('img, iframe').length"
        assert self.run(f"return [window.hurt, {strange}]") == [None, 0]
        return addresses

    def until(self, script: str, *arguments: object) -> None:
        """Wait until an expression holds."""
        wait(lambda: self.run(f"return {script}", *arguments), script)

    def find(self, css: str) -> dict:
        return self.call("/element", {"using": "css selector", "value": css})

    def click(self, css: str) -> None:
        self.call(f"/element/{self.find(css)[ELEMENT]}/click")

    def keys(self, *names: str) -> None:
        """Press keys one after the other, such as ``\\ue014`` (arrow to the right)."""
        actions = [{"type": kind, "value": n} for n in names for kind in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def point(self, css: str) -> None:
        """Move the mouse to the middle of an element, after it is scrolled into view."""
        element = self.find(css)
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", element)
        frame = "requestAnimationFrame"
        self.run(f"return new Promise((done) => {frame}(() => {frame}(done)))")
        move = {"type": "pointerMove", "origin": element, "x": 0, "y": 0, "duration": 0}
        self.call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def size(self, width: int, height: int, *, dark: bool = False, print_: bool = False) -> None:
        """The window's inner size, and whether dark colours or paper are preferred."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        prefers = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        media = "print" if print_ else ""
        self.cdp("Emulation.setEmulatedMedia", media=media, features=prefers)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("/screenshot", method="GET")))
