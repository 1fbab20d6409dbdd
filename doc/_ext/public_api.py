"""The directive ``api``: a table and the entries of objects of the Python interface, from their docstrings.

Sphinx's autodoc names an entry after the class that defines a method. Users know other names, which `api_names`
provides: ``Network.submit``, though `JobView` defines it.
"""

import inspect
import re
from typing import Any

from api_names import Entry, all_entries, entries_of, load, public_names
from docutils import nodes
from numpydoc.docscrape_sphinx import SphinxDocString
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import signature, stringify_signature
from sphinx.util.typing import ExtensionMetadata

_LOG = logging.getLogger(__name__)
#: Classes whose instances users get from calls and do not create, though they can import them.
FROM_CALLS = frozenset(f"pconnect.{name}" for name in ("Network", "Connection", "Command", "Commands", "Job"))
_NAMED = re.compile(r"(?<![`:\w\\])`([^`\n]+)`(?![`_\w])")
#: Type variables of methods that networks and nodes share, replaced by their types for networks.
_OF_A_NETWORK = {
    "pconnect.views.network_views.Sent": "pconnect.commands.command_list.Commands",
    "pconnect.views.program_views.Sent": "pconnect.commands.command_list.Commands",
    "pconnect.views.file_views.RemotePaths": "list[str]",
    "pconnect.views.file_views.LocalPaths": "list[pathlib.Path]",
}
_VERB = re.compile(r"``net\.(\w+)(\(\))?``")
_PAGE = re.compile(r"(?<![\w`/])doc/([\w/-]+)\.md\b(?!`)")
_RAISED = re.compile(r"^( +)(?:\*\*)?(\w+(?:Error|Warning))(?:\*\*)?$", re.MULTILINE)
_OURS = ("pconnect.", "pserver.", "srp_tools.")


def named(text: str, owner: str, parameters: frozenset[str]) -> str:
    """Return a docstring with names in single backticks as links, or as code if the reference lacks the name."""

    def changed(found: re.Match[str]) -> str:
        name = found[1]
        if name in parameters:
            return f"``{name}``"
        bare = name.removesuffix("()")
        known = all_entries()
        for full in (bare, f"{owner}.{bare}", *(f"{package}{bare}" for package in _OURS)):
            if full in known:
                return f":py:obj:`{name} <{full}>`"
        if bare.startswith(_OURS):
            try:
                public = public_names().get(_real(load(bare)))
            except LookupError:
                _LOG.warning("a docstring names %s, which does not exist", bare)
                public = None
            if public:
                return f":py:obj:`{public.partition('.')[2] or public} <{public}>`"
        return f"``{name}``"

    def verb(found: re.Match[str]) -> str:
        full = f"pconnect.Network.{found[1]}"
        return f":py:obj:`net.{found[1]}{found[2] or ''} <{full}>`" if full in all_entries() else found[0]

    def in_line(line: str) -> str:
        if line.lstrip().startswith((">>>", "...")):
            return line
        return _PAGE.sub(r":doc:`/\1`", _VERB.sub(verb, _NAMED.sub(changed, line)))

    return "\n".join(map(in_line, text.split("\n")))


def _real(found: Any) -> str:
    return f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"


def summary_of(entry: Entry) -> str:
    """Return the first sentence of the docstring of an entry."""
    paragraph = (inspect.getdoc(entry.found) or "").partition("\n\n")[0]
    return re.split(r"(?<=[.;])\s", " ".join(paragraph.split()), maxsplit=1)[0].rstrip(";.") + "."


def signature_of(entry: Entry) -> str:
    """Return the parameters of an entry with their types, or an empty text if users do not call it."""
    found = entry.found
    if entry.is_class and (
        "." not in entry.name or entry.name in FROM_CALLS or issubclass(found, BaseException)
    ):
        return ""
    found = getattr(found, "__func__", found)
    if not callable(found):
        return ""
    try:
        text = stringify_signature(signature(found, bound_method=bool(entry.owner)))
    except (TypeError, ValueError):
        return ""
    for variable, kind in _OF_A_NETWORK.items():
        text = text.replace(variable, kind)
    for path, name in public_names().items():
        text = re.sub(rf"(?<![\w.]){re.escape(path)}(?![\w.])", name, text)
    text = re.sub(r"\b(collections\.abc|pathlib|typing)\.(?=[A-Z])", "", text).replace(
        "Callable[[...],", "Callable[...,"
    )
    return re.sub(r" -> None$", "", text)


def raised(found: re.Match[str]) -> str:
    """Return the error name at the start of a docstring's item, as a link if the error is ours."""
    full = f"pconnect.{found[2]}"
    return f"{found[1]}:py:exc:`~{full}`" if full in all_entries() else found[0]


def restructured_text(entry: Entry) -> str:
    """Return one entry in the markup of docstrings."""
    found = entry.found
    package, _, name = entry.name.partition(".")
    if package not in {each.rstrip(".") for each in _OURS}:
        package, name = "", entry.name
    if entry.owner:
        kind = "method" if callable(getattr(found, "__func__", found)) else "property"
        kind = "classmethod" if isinstance(found, classmethod) else kind
        kind = "staticmethod" if isinstance(found, staticmethod) else kind
    elif entry.is_class:
        kind = "exception" if issubclass(found, BaseException) else "class"
    else:
        kind = "function"
    if package and "." in name and not entry.owner:
        inner, _, name = name.rpartition(".")
        package = f"{package}.{inner}"
    try:
        parameters = frozenset(inspect.signature(found).parameters)
    except (TypeError, ValueError):
        parameters = frozenset()
    owner = entry.owner or (entry.name if entry.is_class else "")
    text = named(inspect.getdoc(found) or "", owner, parameters)
    body = str(SphinxDocString(text, config={"attributes_as_param_list": True}))
    body = _RAISED.sub(raised, body)
    if entry.is_class and issubclass(found, BaseException):
        bases = [public_names().get(_real(each), f"``{each.__name__}``") for each in found.__bases__]
        shown = ", ".join(each if each.startswith("`") else f":py:exc:`~{each}`" for each in bases)
        body = f"Bases: {shown}\n\n{body}"
    lines = [f".. py:{kind}:: {name}{signature_of(entry)}"]
    lines += [f"   :module: {package}"] if package else []
    return "\n".join([*lines, "", *(f"   {line}" for line in body.splitlines()), ""])


def table(entries: list[Entry]) -> str:
    """Return the summary table of some entries, one row each."""
    rows = [".. list-table::", "   :widths: auto", "   :class: api-summary", ""]
    for entry in entries:
        name = entry.name
        for package in _OURS:
            name = name.removeprefix(package)
        owner = entry.owner
        rows.append(f"   * - :py:obj:`{name} <{entry.name}>`")
        rows.append(f"     - {named(summary_of(entry), owner, frozenset())}")
    return "\n".join([*rows, ""])


class Api(SphinxDirective):
    """Shows a table and the entries of the names in its lines."""

    optional_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes of table and entries."""
        self.env.note_reread()  # docstrings can change when the page does not
        module = self.arguments[0] if self.arguments else ""
        entries = list(entries_of(module, "\n".join(self.content)))
        text = "\n".join([table(entries), *map(restructured_text, entries)])
        return self.parse_text_to_nodes(f"~~~~~~{{eval-rst}}\n{text}\n~~~~~~\n")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("api", Api)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
