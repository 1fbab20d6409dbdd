"""The forms of an object, and objects whose methods fail."""

import json
from typing import Any

import pytest

from pserver.display.mime_bundle import bundle_size, make_bundle


class Text(str):
    __slots__ = ()


class Everything:
    def __repr__(self) -> str:
        return "everything"

    def _repr_html_(self) -> str:
        return Text("<b>x</b>")

    def _repr_markdown_(self) -> str:
        return "**x**"

    def _repr_svg_(self) -> str:
        return "<svg/>"

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        return b"\x89PNG", {"width": 3}

    def _repr_jpeg_(self) -> bytearray:
        return bytearray(b"jpeg")

    def _repr_latex_(self) -> None:
        return None

    def _repr_json_(self) -> dict[str, Any]:
        return {"a": (1, 2)}


def test_all_forms_of_an_object_as_plain_values() -> None:
    bundle = make_bundle(Everything())
    assert bundle.data == {
        "text/plain": "everything",
        "text/html": "<b>x</b>",
        "text/markdown": "**x**",
        "image/svg+xml": "<svg/>",
        "image/png": b"\x89PNG",
        "image/jpeg": b"jpeg",
        "application/json": {"a": [1, 2]},
    }
    assert {type(item) for item in bundle.data.values()} == {str, bytes, dict}
    assert bundle.metadata == {"image/png": {"width": 3}}
    texts = sum(len(item) for item in bundle.data.values() if not isinstance(item, dict))
    assert bundle_size(bundle) == texts + len(json.dumps({"a": [1, 2]})) + len(json.dumps(bundle.metadata))


@pytest.mark.parametrize("with_metadata", [False, True])
def test_a_bundle_of_its_own_comes_before_single_forms(with_metadata: bool) -> None:
    class Own(Everything):
        def _repr_mimebundle_(self, include: object, exclude: object) -> Any:
            assert include is exclude is None
            data = {"text/html": "<i>own</i>", "text/plain": "own", "application/x": {"b": 1}}
            return (data, {"text/html": {"isolated": True}}) if with_metadata else data

    bundle = make_bundle(Own())
    assert bundle.data["text/html"] == "<i>own</i>"
    assert bundle.data["text/plain"] == "own"
    assert bundle.data["application/x"] == {"b": 1}
    assert bundle.data["text/markdown"] == "**x**"
    assert bundle.metadata.get("text/html") == ({"isolated": True} if with_metadata else None)


def test_a_method_that_fails_is_left_out_and_its_traceback_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no repr")

        def _repr_html_(self) -> str:
            raise ValueError("no html")

        def _repr_json_(self) -> object:
            return object()

        def _repr_markdown_(self) -> str:
            return "fine"

    bundle = make_bundle(Broken())
    assert set(bundle.data) == {"text/plain", "text/markdown"}
    assert bundle.data["text/plain"].endswith("Broken, whose repr failed: ValueError>")
    err = capsys.readouterr().err
    assert "ValueError: no html" in err
    assert "TypeError" in err


def test_who_answers_to_any_name_and_classes_are_text() -> None:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: name

    assert set(make_bundle(Anything()).data) == {"text/plain"}
    assert set(make_bundle(Everything).data) == {"text/plain"}


def test_an_interrupt_is_not_taken_for_a_failure_of_the_object() -> None:
    class Slow:
        def _repr_html_(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_bundle(Slow())
