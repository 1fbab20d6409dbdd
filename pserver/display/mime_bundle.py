"""The MIME bundle of an object, built from the methods that IPython uses, without IPython."""

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from srp_tools.packages import import_own, own_imports

_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
}
# IPython's trick: an object that claims to have this method answers to any name, so its other methods mean nothing.
_CANARY = "_ipython_canary_method_should_not_exist_"


class Bundle(NamedTuple):
    """One object in several forms."""

    data: dict[str, Any]  #: by MIME type: str, bytes, or JSON values; always contains ``text/plain``
    metadata: dict[str, Any]  #: JSON values


def make_bundle(shown: object) -> Bundle:
    """Return all forms of an object.

    If a method of the object fails, its form is left out, and its traceback is printed.

    Examples
    --------
    >>> class Bold:
    ...     def _repr_html_(self):
    ...         return "<b>x</b>"
    ...     def __repr__(self):
    ...         return "x"
    >>> make_bundle(Bold()).data
    {'text/plain': 'x', 'text/html': '<b>x</b>'}
    """
    bundle = Bundle({"text/plain": _text(shown)}, {})
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    if figure is not None and isinstance(shown, figure):
        with own_imports():
            backend = import_own("pserver.display.matplotlib_backend")
            _try(lambda: _add(bundle, "image/png", backend.to_png(shown)))
        return bundle
    if isinstance(shown, type) or callable(getattr(shown, _CANARY, None)):
        return bundle
    whole: Any = getattr(shown, "_repr_mimebundle_", None)
    if callable(whole):
        _try(lambda: _add_all(bundle, whole(include=None, exclude=None)))
    for name, mime_type in _METHODS.items():
        method = getattr(shown, name, None)
        if callable(method) and mime_type not in bundle.data:
            _try(lambda method=method, mime_type=mime_type: _add(bundle, mime_type, method()))  # type: ignore[misc]
    return bundle


def bundle_size(bundle: Bundle) -> int:
    """Return the approximate size of a bundle on the wire, in bytes."""
    return sum(map(_size, (*bundle.data.values(), bundle.metadata)))


def _size(item: object) -> int:
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogatepass"))
    return len(item) if isinstance(item, bytes) else len(json.dumps(item))


def _text(shown: object) -> str:
    try:
        return str.__str__(repr(shown))
    except Exception as error:  # noqa: BLE001 - the user's __repr__ may raise anything
        return f"<a {type(shown).__qualname__}, whose repr failed: {type(error).__name__}>"


def _try(step: Callable[[], None]) -> None:
    try:
        step()
    except Exception:  # noqa: BLE001 - the user's methods may raise anything, and must not make the display fail
        traceback.print_exc()


def _add_all(bundle: Bundle, made: Any) -> None:
    """Add the result of ``_repr_mimebundle_``: a dict by MIME type, or such a dict and one of metadata."""
    data, metadata = made if isinstance(made, tuple) else (made, {})
    for mime_type, item in (data or {}).items():
        _add(bundle, mime_type, (item, (metadata or {}).get(mime_type)))


def _add(bundle: Bundle, mime_type: str, made: Any) -> None:
    """Add one form: its data, or data and metadata; ``None`` means that there is no such form."""
    item, metadata = made if isinstance(made, tuple) else (made, None)
    if item is None:
        return
    mime_type = str.__str__(mime_type)
    bundle.data[mime_type] = _plain(item)
    if metadata:
        bundle.metadata[mime_type] = _plain(metadata)


def _plain(item: Any) -> Any:
    """Return an item as plain values, because subclasses could not be sent."""
    if isinstance(item, str):
        return str.__str__(item)
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    return json.loads(json.dumps(item))
