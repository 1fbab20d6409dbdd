"""The reference of the Python interface contains all public names, and each of them has a docstring."""

import importlib
import inspect
from typing import Any

import pytest
from api_names import CLASSES, all_entries, has_own_entry, load, members_for_users, public_names, real_path
from public_api import restructured_text, signature_of, summary_of

# The modules that `doc/stability.md` declares public.
MODULES = (
    "pconnect", "pconnect.code_sync", "pconnect.collectives", "pconnect.console", "pconnect.errors",
    "pconnect.job_side", "pconnect.versions", "pserver", "pserver.control", "pserver.files", "srp_tools",
)  # fmt: skip
# Methods of public classes that only the library calls. A new method is public unless you add it here.
INTERNAL = {
    "Dashboard": {"abandon"},
    "Executor": {
        "foreign", "known_slots", "pack", "pack_for_map", "prepare", "seeds", "share", "start", "submit_chunk",
        "throttles", "unread_maps", "usable_slots",
    },
    "ProgramTemplate": {"make_job"},
    "pconnect.Network": {"mesh"},  # provisional
}  # fmt: skip
ENTRIES = all_entries()


@pytest.mark.parametrize("module", MODULES)
def test_exported_names_have_an_entry(module: str) -> None:
    package = importlib.import_module(module)
    missing = [
        name
        for name in package.__all__
        if real_path(getattr(package, name)) not in public_names() and f"{module}.{name}" not in ENTRIES
    ]
    assert not missing, (
        f"add these names of {module} to a table or a list on a page in doc/reference/api: {missing}"
    )


@pytest.mark.parametrize("name", sorted(name for name, entry in ENTRIES.items() if entry.is_class))
def test_members_of_classes_have_an_entry(name: str) -> None:
    kind = load(CLASSES.get(name, name))
    if issubclass(kind, BaseException):
        return
    wanted = {each for each in members_for_users(kind) if has_own_entry(kind, each)}
    wanted -= INTERNAL.get(name, set())
    if name == "pconnect.Connection":  # a node has the methods of a network, which has their entries
        wanted = {each for each in wanted if f"pconnect.Network.{each}" not in ENTRIES}
    found = {each.rpartition(".")[2] for each, entry in ENTRIES.items() if entry.owner == name}
    missing = sorted(wanted - found)
    assert not missing, (
        f"add these members of {name} to its page in doc/reference/api, or begin them with _: {missing}"
    )


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_entries_have_a_docstring(name: str) -> None:
    found: Any = ENTRIES[name].found
    text = inspect.getdoc(found)
    assert text, name
    assert text != inspect.getdoc(type(found)), f"{name} has the docstring of its type"
    assert summary_of(ENTRIES[name]).strip(".")


def test_docstrings_lead_to_pages_names_and_errors() -> None:
    text = restructured_text(ENTRIES["pconnect.pconnect"])
    assert ":doc:`/reference/configuration`" in text
    assert ":py:obj:`net.resumed <pconnect.Network.resumed>`" in text
    assert "\n       :py:exc:`~pconnect.ConnectError`\n" in text
    assert "doc/" not in text.replace(":doc:`/", "")


def test_an_entry_has_the_names_that_users_know() -> None:
    eval_entry = ENTRIES["pconnect.Network.eval"]
    assert signature_of(eval_entry).endswith(" -> pconnect.Commands")
    text = restructured_text(eval_entry)
    assert text.startswith(".. py:method:: Network.eval(source: str, *, allow_pickle: bool = False")
    assert ":py:obj:`reval <pconnect.reval>`" in text
    assert "``source`` is" in text
    assert signature_of(ENTRIES["pconnect.Network"]) == ""
