"""Checks the finished site: each internal link has a target, and no page loads anything from elsewhere."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.typing import ExtensionMetadata

#: The attributes that link to other files, by element; elements of the second set load immediately.
_LINKS = {("a", "href"), ("area", "href")}
_LOADS = {
    ("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("audio", "src"),
    ("embed", "src"), ("object", "data"), ("link", "href"),
}  # fmt: skip
_NOT_LOADED = {"canonical", "next", "prev", "index", "search", "author", "copyright", "help"}


class Page(HTMLParser):
    """The links of one HTML page and the anchors in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record what one element has."""
        given = {name: value for name, value in attrs if value is not None}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        for name, value in given.items():
            if (tag, name) in _LOADS:
                is_loaded = tag != "link" or _NOT_LOADED.isdisjoint(given.get("rel", "").split())
                (self.loads if is_loaded else self.links).append(value)
            elif (tag, name) in _LINKS:
                self.links.append(value)


def faults(site: Path) -> Iterator[str]:
    """Report each link to a file or an anchor that does not exist, and each address that a page loads.

    Parameters
    ----------
    site
        The folder with the HTML files.

    Yields
    ------
    str
        Page, link and fault.
    """
    static = site / "_static"  # it has the theme's templates, which are not pages
    files = [path for path in sorted(site.rglob("*.html")) if static not in path.parents]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in files}
    for path, page in pages.items():
        where = path.relative_to(site.resolve()).as_posix()
        for link in page.loads:
            if urlsplit(link).netloc or urlsplit(link).scheme not in {"", "data"}:
                yield f"{where}: it loads {link} from another place"
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{where}: {link} leads to no file"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where}: {link} leads to no anchor"


def _check(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        found = sorted(set(faults(Path(app.outdir))))
        if found:
            raise SphinxError("links of the site:\n" + "\n".join(found))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension."""
    app.connect("build-finished", _check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
