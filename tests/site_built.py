"""The built site: it needs no network, and every link leads somewhere; ``make docs`` runs this."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import chromium

SITE = Path(__file__).parents[1] / "out" / "site"
LOADS = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "object": ("data",),
    "use": ("href", "xlink:href"),
}
"""What a browser fetches by itself."""
HOSTS = {"arxiv.org", "ir-measur.es", "semver.org", "squidfunk.github.io"}
NOT_LOADED = {"canonical", "next", "prev", "author", "license"}


class Page(HTMLParser):
    """What a page loads, where it links to, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and set(given.get("rel", "").split()) & NOT_LOADED:
            return
        self.loads += [given[name] for name in LOADS.get(tag, ()) if name in given]


def built() -> dict[Path, Page]:
    """Every page of the site, by its file."""
    return {path.resolve(): Page(path) for path in SITE.rglob("*.html")}


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """The pages; the site is built before."""
    found = built()
    assert len(found) > 30
    return found


def leads(path: Path, link: str) -> tuple[Path, str]:
    """The file and the anchor that a link names."""
    parts = urlsplit(link)
    target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    return target, unquote(parts.fragment)


def test_nothing_is_loaded_from_elsewhere(site):
    for path, page in site.items():
        for address in page.loads:
            parts = urlsplit(address)
            assert (parts.scheme, parts.netloc) in (("", ""), ("data", "")), (path.name, address)
            if not parts.scheme and path.name != "404.html":
                assert leads(path, address)[0].is_file(), (path.name, address)


def test_no_style_or_script_fetches_from_elsewhere():
    styles = list(SITE.rglob("*.css"))
    assert styles
    for path in styles:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)]*", text) == [], path.name
    fetched = re.compile(r"https?://(?:unpkg|cdn|fonts|cdnjs)[\w./-]*")
    for path in SITE.rglob("*.html"):
        assert fetched.findall(path.read_text(encoding="utf-8")) == [], path.name


def test_every_link_leads_somewhere(site):
    count = 0
    for path, page in site.items():
        if path.name == "404.html":  # its addresses are the server's
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", (path.name, link)
                assert parts.netloc in HOSTS, (path.name, link)
                continue
            assert not parts.netloc, (path.name, link)
            target, anchor = leads(path, link)
            assert target.is_file(), (path.name, link)
            if target in site and anchor:
                assert anchor in site[target].anchors, (path.name, link)
            count += 1
    assert count > 1000


def test_the_search_needs_no_server():
    assert (SITE / "search" / "search_index.js").is_file()
    first = (SITE / "index.html").read_text(encoding="utf-8")
    assert "assets/iframe-worker.js" in first


def test_every_public_name_has_its_anchor(site):
    import matchlens

    anchors = site[(SITE / "reference" / "python.html").resolve()].anchors
    assert {f"matchlens.{name}" for name in matchlens.__all__ if name[0] != "_"} <= anchors


def test_the_search_works_from_a_file_and_nothing_else_is_asked_for(tmp_path):
    if chromium.found() is None:
        pytest.skip("no chromium with its driver is installed")
    with chromium.Chromium(tmp_path / "profile", tmp_path) as browser:
        browser.open((SITE / "index.html").resolve().as_uri())
        browser.run(
            "const box = document.querySelector('[data-md-component=search-query]');"
            "box.focus(); box.value = 'tie group';"
            "box.dispatchEvent(new Event('input', {bubbles: true}));"
            "box.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));"
        )
        browser.until("document.querySelector('.md-search-result__link')")
        found = browser.run(
            "return [...document.querySelectorAll('.md-search-result__link')].map(a => a.href)"
        )
        assert any("science/ranking.html" in link for link in found)
        messages = browser.call("/se/log", {"type": "performance"})
        sent = [json.loads(one["message"])["message"] for one in messages]
        asked = [
            one["params"]["request"]["url"]
            for one in sent
            if one["method"] == "Network.requestWillBeSent"
        ]
        assert any(address.endswith("search_index.js") for address in asked)
        own = ("file:", "data:", "blob:", "about:", "chrome:")  # chrome: its own empty window
        assert [address for address in asked if not address.startswith(own)] == []
