"""Checks a built site: every link inside it leads somewhere, and no page loads anything from elsewhere.

python docs/check_site.py docs/_build/html
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Which attribute of a tag names something that the browser loads by itself.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}

#: What a style sheet loads.
STYLE = re.compile(r"""(?:url\(|@import\s+)\s*['"]?((?:https?:)?//[^'")\s]+)""")


class Page(HTMLParser):
    """The places in a page that a link can lead to, its links, and what it loads."""

    def __init__(self, path: Path):
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places.update(given[name] for name in ("id", "name") if name in given)
        target = given.get(LOADED.get(tag, ""))
        if target is not None and given.get("rel") not in ("canonical", "license"):
            self.loaded.append(target)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc)


def problems(root: Path) -> tuple[list[str], int, int]:
    """What is wrong in the site below ``root``, and how many pages and links it has."""
    pages = {path.resolve(): Page(path) for path in sorted(root.rglob("*.html"))}
    found, links = [], 0
    for path, page in pages.items():
        name = path.relative_to(root.resolve())
        for address in page.loaded:
            if elsewhere(address) and not address.startswith("data:"):
                found.append(f"{name} loads {address} from elsewhere")
        for address in [*page.links, *page.loaded]:
            if elsewhere(address):
                continue
            links += 1
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                found.append(f"{name} leads to {address}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                found.append(f"{name} leads to {address}, and that page has no such place")
    for path in sorted(root.rglob("*.css")):
        found += [f"{path.name} loads {address}" for address in STYLE.findall(path.read_text("utf-8"))]
    return found, len(pages), links


def main(folder: str) -> int:
    """Print what is wrong; the exit status is 0 if nothing is."""
    root = Path(folder)
    found, pages, links = problems(root)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{pages} pages, {links:,} links inside the site, {len(found)} of them wrong")
    return int(bool(found) or pages == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
