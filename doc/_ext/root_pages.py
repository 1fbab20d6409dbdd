"""Shows files from the repository's root as pages of the site, and corrects the links between both."""

import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

#: The page of the site that shows each file. In the sources, pages link only to the file.
PAGES = {
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "RELEASING.md": "releasing",
    "SECURITY.md": "security-policy",
}
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")


def translate(text: str, folder: str, target_folder: str) -> str:
    """Return Markdown with its relative links changed.

    Parameters
    ----------
    text
        The Markdown of a file.
    folder
        The folder of that file, relative to ``doc``: ``".."`` for a file in the root.
    target_folder
        The folder of the page that shows it, relative to ``doc``.

    Examples
    --------
    >>> translate("[a](doc/security.md#keys), [b](SECURITY.md), [c](LICENSE)", "..", "")
    '[a](security.md#keys), [b](security-policy.md), [c](../LICENSE)'
    >>> translate("[d](../../CHANGELOG.md), [e](../glossary.md)", "howto", "howto")
    '[d](../changelog.md), [e](../glossary.md)'
    """

    def changed(found: re.Match[str]) -> str:
        start, link, anchor = found.groups()
        path = posixpath.normpath(posixpath.join("doc", folder, link))
        path = f"doc/{PAGES[path]}.md" if path in PAGES else path
        path = "doc/index.md" if path == "README.md" else path
        return f"{start}{posixpath.relpath(path, posixpath.join('doc', target_folder))}{anchor or ''}"

    return _LINK.sub(changed, text)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    path = app.env.doc2path(page)
    if not str(path).endswith(".md"):
        return
    for name, shown_by in PAGES.items():
        if page == shown_by:
            file = Path(app.srcdir).parent / name
            app.env.note_dependency(str(file))
            source[0] = translate(file.read_text(encoding="utf-8"), "..", "")
            return
    folder = posixpath.dirname(page)
    source[0] = translate(source[0], folder, folder)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension."""
    app.connect("source-read", _read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
