"""Removes the folders of the building machine from tracebacks in the output of notebooks."""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_FOLDER = re.compile(r'(?<=File ")/[^"\n]*/(?=(?:site-packages|lib/python3\.\d+)/)')


def without_folders(text: str) -> str:
    """Return text in which files of packages and of the standard library have short paths.

    Examples
    --------
    >>> print(without_folders('File "/opt/lib/python3.12/site-packages/numpy/linalg/_linalg.py", line 647'))
    File ".../site-packages/numpy/linalg/_linalg.py", line 647
    """
    return _FOLDER.sub(".../", text)


def _shorten(_: Sphinx, page: nodes.document) -> None:
    for block in page.findall(nodes.literal_block):
        text = block.astext()
        shortened = without_folders(text)
        if shortened != text:
            block[:] = [nodes.Text(shortened)]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension."""
    app.connect("doctree-read", _shorten)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
