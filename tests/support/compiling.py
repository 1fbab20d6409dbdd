"""Source to compile, and a pretended remote machine: another folder and another environment."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pconnect.shadow.compile_step import Outcome, RemoteEnd, Step, run_step
from pconnect.shadow.compiler_words import Family
from tests.support.programs import program

FILES = {
    "inc/user.h": """#pragma once
#define ADD(a, b) \\
   ((a)   + (b))
#define LOOP(x) for (int i = 0; i < (x); i++) { printf("%d %s\\n", i, __FILE__); }
#pragma push_macro("ADD")
#pragma GCC poison never_used
static inline int twice(int   x) { return   ADD(x,   x); }
""",
    "inc/first.h": "#define FIRST 7\ntypedef int first_t;\n",
    "src/foo.c": """#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "user.h"
#ifndef X
#define X 1
#endif
  #if 0
"""
    + "  left out\n" * 20
    + """  #endif
/* A comment
   of two lines. */
int\tf(int a,
   int b)
{
\tLOOP(ADD(a,
\t   b))   ; assert(a != b);
\tchar  buf[20]; memset(buf, 0, sizeof buf);
\treturn twice(a)   +  ADD(b, __LINE__) + X + (int)strlen(buf) + __COUNTER__ + __INCLUDE_LEVEL__;
}
const char *names[] = {__FILE__, __func__ "" + 0};
""".replace(', __func__ "" + 0', ""),
    "src/bar.cc": """#include <map>
#include <string>
#include <vector>
#include "user.h"
namespace { struct Hidden { std::string name; int n = __LINE__; }; std::map<std::string, Hidden> all; }
template <class T> T largest(const std::vector<T>& of) {
\tT best = of.at(0);   for (const auto& each : of) if (best < each) best = each;
\treturn best;
}
const char *raw = R"(a
# not a directive
)";
int g(const std::vector<int>& of) { all["x"] = {raw}; return largest(of) + int(all.size()) + twice(3); }
""",
    "src/local.cc": 'namespace { struct S { S() { __builtin_puts("s"); } } s; }\n',
    "src/asks.cc": """#if __has_include("never_read.h") && __has_include(<first.h>) && !__has_include("nowhere.h")
int there = __LINE__;
#endif
""",
    "src/lines.c": """#include "user.h"
#line 70 "grammar.y"
int f(int x) { return ADD(x, __LINE__); }
#line 4 "src/lines.c"
static int h(int x) { return x; }
#line 90 "/nowhere/other.y"
int g(int x) { return f(h(x)); }
""",
    "near.c": '#include "near.h"\nint f(int x) { return near(x) + 1; }\n',
    "near.h": "static inline int near(int x) { return x + 2; }\n",
    "src/never_read.h": "#error It is only asked for.\n",
    "src/dos.c": '#include <string.h>\r\n#include "dos.h"\r\nint f(char *x)\r\n{\r\n'
    "\treturn DOS(strlen(x),\\\r\n 2);\r\n}\r\n",
    "inc/dos.h": "#pragma once\r\n#define DOS(a, b) \\\r\n    ((a) + (b))\r\n",
    "src/bad.c": """#include "user.h"
int f(int a)
{
\tint unused;
\tif (a = 3) return\tMUL("x" * 2, a);
\treturn undeclared
}
""",
    "src/warns.c": """#include "user.h"
#define NARROW(x) char c = (x)
#warning "from the preprocessor"
int f(int a)
{
\tint unused, b;
\tNARROW(300);
\tif (a = 3) return\tb + c;
\treturn &a == 0;
}
""",
    "src/missing.c": '#include "none.h"\nint x;\n',
}


@dataclass
class OtherFolder:
    """Runs commands in an empty folder, with only the environment of a server.

    Attributes
    ----------
    place
        Where it creates its folders.
    programs
        A folder whose programs precede the system's.
    runs
        The commands that it has run.
    """

    place: Path
    programs: Path | None = None
    runs: list[list[str]] = field(default_factory=list)

    def run(
        self,
        words: Sequence[str],
        source: bytes,
        *,
        files: Mapping[str, bytes],
        environment: Mapping[str, str],
        output: str,
    ) -> RemoteEnd:
        self.runs.append(list(words))
        path = os.pathsep.join([*([str(self.programs)] if self.programs else []), os.defpath])
        with tempfile.TemporaryDirectory(dir=self.place) as folder:
            for name, data in files.items():
                file = Path(folder, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            ended = subprocess.run(
                words,
                input=source,
                cwd=folder,
                env={"PATH": path, **environment},
                capture_output=True,
                check=False,
                timeout=120,
            )
            left = Path(folder, output)
            outputs = {output: left.read_bytes()} if left.exists() else {}
        status = ended.returncode if ended.returncode >= 0 else 128 - ended.returncode
        return RemoteEnd(status, ended.stdout, ended.stderr, outputs, "the other folder")


class Folder:
    """A folder with source, in which tests run a command locally and through another machine."""

    def __init__(self, path: Path) -> None:
        self.path = path / "here"
        (path / "there").mkdir()
        self.remote = OtherFolder(path / "there")
        for name, text in {**FILES, "words": "-O2 -g '-DX=1 + 1' -Iinc"}.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(text.encode())
        (self.path / "out").mkdir()
        self.sources = self.files()

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.path.rglob("*") if path.is_file())
        return {str(path.relative_to(self.path)): path.read_bytes() for path in found}

    def made(self) -> dict[str, bytes]:
        """Return the new files and remove them."""
        new = {name: data for name, data in self.files().items() if name not in self.sources}
        for name in new:
            (self.path / name).unlink()
        return new

    def words(self, line: str) -> list[str]:
        words = shlex.split(line.format(cwd=self.path))
        program(words[0], {"clang++": "clang"}.get(words[0], words[0]))
        return words

    def here(self, line: str) -> tuple[int, bytes, bytes]:
        ended = subprocess.run(
            self.words(line), cwd=self.path, env=environment(), capture_output=True, check=False
        )
        return ended.returncode, ended.stdout, ended.stderr

    def away(self, line: str, variables: Mapping[str, str] | None = None, **options: bool) -> Outcome:
        words = self.words(line)
        family = Family.CLANG if "clang" in words[0] else Family.GCC
        given = environment() | dict(variables or {})
        return run_step(Step(words, str(self.path), family, given, **options), self.remote)


def environment() -> dict[str, str]:
    """Return the environment of a user's shell. ``PWD`` is that of the tests, and therefore wrong."""
    return {"PATH": os.environ["PATH"], "HOME": "/nowhere", "PWD": str(Path.cwd()), "LC_ALL": "C.UTF-8"}
