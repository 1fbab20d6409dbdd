"""The files that another machine gets for Clang, and their apparent paths. `test_compile_step` runs Clang on them."""

import json

import pytest

from pconnect.shadow.source.clang_files import (
    CONTENTS,
    OVERLAY,
    compiler_proper,
    driver_warnings,
    with_contents,
)

SHOWN = """Debian clang version 14.0.6
clang: warning: -lx: 'linker' input unused [-Wunused-command-line-argument]
InstalledDir: /usr/bin
 (in-process)
 "/usr/lib/llvm-14/bin/clang" "-cc1" "-I" "inc dir" "-internal-isystem" "/usr/include" "-x" "c" "a.c"
"""


def test_the_compiler_proper_is_called_as_here_and_with_an_overlay() -> None:
    words = ["-cc1", "-I", "inc dir", "-internal-isystem", "/usr/include", "-x", "c", "a.c"]
    assert compiler_proper(SHOWN) == [*words, "-ivfsoverlay", "/proc/self/cwd/.overlay.yaml"]


@pytest.mark.parametrize(
    "shown",
    [
        "",
        SHOWN + ' "/usr/bin/as" "-o" "a.o" "a.s"\n',
        SHOWN.replace("-cc1", "-cc1as"),
        SHOWN.replace('"-I"', '"-fsanitize-system-ignorelist=/usr/lib/x"'),
        SHOWN.replace('"-I"', '"-include-pch"'),
    ],
)
def test_what_reads_other_files_stays_here(shown: str) -> None:
    with pytest.raises(ValueError, match=r"Clang runs more than|names a file on this machine"):
        compiler_proper(shown)


def test_what_the_driver_warns_of_is_kept() -> None:
    line = b"clang: warning: -lx: 'linker' input unused [-Wunused-command-line-argument]\n"
    assert driver_warnings(SHOWN) == line
    assert driver_warnings("Debian clang\n") == b""


def test_files_lie_where_their_names_lead_and_no_others_do() -> None:
    here = {"a.c": b"A", "../up.h": b"UP", "/usr/x/../y.h": b"Y", "./inc/z.h": b"Z"}
    files = with_contents([*here, "generated.y"], [], here.get)
    overlay = json.loads(files.pop(OVERLAY))
    assert overlay["fallthrough"] is False and overlay["overlay-relative"] is True
    contents = {root["name"]: files.pop(root["external-contents"]) for root in overlay["roots"]}
    assert contents == {
        "/proc/self/cwd/a.c": b"A",
        "/proc/self/up.h": b"UP",
        "/usr/y.h": b"Y",
        "/proc/self/cwd/inc/z.h": b"Z",
    }
    assert files == {}


def test_files_that_are_only_asked_for_exist_too() -> None:
    asks = b'#if __has_include(<one.h>) || __has_include_next( "two.h") || __has_include("none.h")'
    here = {"src/a.c": asks, "/usr/include/one.h": b"1", "src/two.h": b"2", "other/one.h": b"3"}
    words = ["-cc1", "-internal-isystem", "/usr/include", "-main-file-name", "other"]
    files = with_contents(["src/a.c"], words, here.get)
    names = {root["name"] for root in json.loads(files[OVERLAY])["roots"]}
    assert names == {"/proc/self/cwd/src/a.c", "/usr/include/one.h", "/proc/self/cwd/src/two.h"}
    assert len([name for name in files if name.startswith(CONTENTS)]) == 3
