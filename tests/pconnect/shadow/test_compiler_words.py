"""Compiler commands: which run on another machine, with which words, and which must run here."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.shadow.compiler_words import Away, Family, Form, Here, decide

GCC, CLANG = Family.GCC, Family.CLANG

# Commands that must run here, with a part of the reason.
STAYS = {
    "clang -g -gsplit-dwarf=split -c foo.c": "-gsplit-dwarf",
    "clang -g -gsplit-dwarf=single -c foo.c": "-gsplit-dwarf",
    "clang -fsanitize-coverage-allowlist=f -c foo.c": "-fsanitize-coverage-allowlist",
    "clang -fbasic-block-sections=list=f -c foo.c": "-fbasic-block-sections",
    "gcc foo.c": "links",
    "gcc -o prog foo.c": "links",
    "gcc -o prog foo.o bar.o": "more than one source",
    "gcc foo.o -o prog": "not a source",
    "gcc": "no source",
    "gcc -c": "no source",
    "gcc -O2 -c": "no source",
    "gcc -c foo.c bar.c": "more than one source",
    "gcc -c foo.c bar.o": "more than one source",
    "gcc -E foo.c": "-E only",
    "gcc -S foo.c": "-S only",
    "gcc -S -c foo.c": "-S only",
    "gcc -M foo.c": "-M only",
    "gcc -MM -MF x.d foo.c": "-MM only",
    "gcc -c -": "standard input",
    "gcc -x c -c -": "standard input",
    "gcc -c foo.s": "assembly",
    "gcc -c foo.S": "assembly",
    "gcc -c foo.i": "preprocessed",
    "gcc -c foo.h": "precompiled header",
    "gcc -c foo.hpp -o foo.gch": "precompiled header",
    "gcc -x c-header -c foo.h": "language is c-header",
    "gcc -x assembler -c foo.c": "language is assembler",
    "gcc -x ada -c foo.c": "language is ada",
    "gcc -c foo.m": "not a C or C++ source",
    "gcc -c foo.f90": "not a C or C++ source",
    "gcc -c foo": "not a C or C++ source",
    "gcc -c foo.o": "not a source",
    "gcc -fprofile-generate -c foo.c": "profile",
    "gcc -fprofile-use=x -c foo.c": "profile",
    "gcc -fprofile-arcs -c foo.c": "profile",
    "gcc --coverage -c foo.c": "profile",
    "gcc -ftest-coverage -c foo.c": "more than an object",
    "gcc -save-temps -c foo.c": "more than an object",
    "gcc --save-temps=obj -c foo.c": "more than an object",
    "gcc -frepo -c foo.cc": "more than an object",
    "gcc -fdump-tree-all -c foo.c": "more than an object",
    "gcc -dr -c foo.c": "more than an object",
    "gcc -da -c foo.c": "more than an object",
    "gcc -fstack-usage -c foo.c": "more than an object",
    "gcc -gsplit-dwarf -c foo.c": "more than an object",
    "gcc -aux-info x -c foo.c": "more than an object",
    "gcc -fcallgraph-info -c foo.c": "more than an object",
    "gcc -specs=x -c foo.c": "file on this machine",
    "gcc -fplugin=x.so -c foo.c": "file on this machine",
    "gcc -B/x -c foo.c": "file on this machine",
    "gcc -B /x -c foo.c": "file on this machine",
    "gcc -Wa,-adhln=foo.lst -c foo.c": "listing",
    "gcc -Wa,-a -c foo.c": "listing",
    "gcc -Wa,--MD,x -c foo.c": "listing",
    "gcc -Wa,-I/x -c foo.c": "listing",
    "gcc -Xassembler -a -c foo.c": "unknown",
    "gcc -Xpreprocessor -DX -c foo.c": "unknown",
    "gcc -Wp,-H -c foo.c": "unknown",
    "gcc -march=native -c foo.c": "processor of this machine",
    "gcc -mtune=native -c foo.c": "processor of this machine",
    "gcc -mcpu=native -c foo.c": "processor of this machine",
    "gcc -frecord-gcc-switches -c foo.c": "records",
    "gcc -g3 -c foo.c": "records macros",
    "gcc -ggdb3 -c foo.c": "records macros",
    "gcc -g -pedantic -c foo.c": "-pedantic",
    "gcc -Wpedantic -ggdb -c foo.c": "-pedantic",
    "gcc -g -fsanitize=address -c foo.c": "sanitizer",
    "gcc -fmodules-ts -c foo.cc": "modules",
    "gcc -include-pch x -c foo.c": "precompiled",
    "gcc -fpreprocessed -c foo.c": "preprocess",
    "gcc -traditional-cpp -c foo.c": "preprocess",
    "gcc -P -c foo.c": "preprocess",
    "gcc -C -c foo.c": "preprocess",
    "gcc -H -c foo.c": "preprocess",
    "gcc -MG -MD -c foo.c": "preprocess",
    "gcc -MF x -c foo.c": "writes none",
    "gcc -MP -c foo.c": "writes none",
    "gcc -MD -MF - -c foo.c": "standard output",
    "gcc -c foo.c -o -": "standard output",
    "gcc -c foo.c -o": "-o has no argument",
    "gcc -c foo.c -I": "-I has no argument",
    "gcc -c foo.c -MD -MF": "-MF has no argument",
    "gcc -c foo.c -D": "-D has no argument",
    "gcc -c foo.c -x": "-x has no argument",
    "gcc -c foo.c --frobnicate": "unknown",
    "gcc -c foo.c -Mx": "unknown",
    "gcc -c foo.c --output=x": "unknown",
    "gcc -v -c foo.c": "compiles nothing",
    "gcc --version": "compiles nothing",
    "gcc -dumpmachine": "more than",
    "gcc -print-search-dirs": "compiles nothing",
    "gcc -### -c foo.c": "compiles nothing",
    "gcc -fsyntax-only -c foo.c": "only checks",
    "gcc -Wunused-macros -c foo.c": "not preprocessed",
    "gcc -finput-charset=latin1 -c foo.c": "before it is preprocessed",
    "gcc -c a=b.c": "unusual",
    "gcc -c 'a\"b.c'": "unusual",
    "gcc -c 'ä.c'": "unusual",
    "clang -Xclang -ast-dump -c foo.c": "unknown",
    "clang -fmodules -c foo.c": "modules",
    "clang -arch x86_64 -arch arm64 -c foo.c": "several objects",
    "clang -emit-llvm -c foo.c": "more than an object",
    "clang -Weverything -c foo.c": "not preprocessed",
}

# Commands that can run elsewhere, with the words of both steps (without the compiler and the words common to all).
AWAY = {
    "gcc -c foo.c": ("-E -fdirectives-only -x c foo.c", "", "foo.o"),
    "gcc -c src/foo.c": ("-E -fdirectives-only -x c src/foo.c", "", "foo.o"),
    "gcc -c foo.c -o out/x.o": ("-E -fdirectives-only -x c foo.c", "", "out/x.o"),
    "gcc -oout/x.o foo.c -c": ("-E -fdirectives-only -x c foo.c", "", "out/x.o"),
    "gcc -c foo.c -o a.o -o b.o": ("-E -fdirectives-only -x c foo.c", "", "b.o"),
    "gcc -c foo.tar.c": ("-E -fdirectives-only -x c foo.tar.c", "", "foo.tar.o"),
    "g++ -c foo.c": ("-E -fdirectives-only -x c++ foo.c", "", "foo.o"),
    "/usr/bin/x86_64-linux-gnu-g++-12 -c foo.c": ("-E -fdirectives-only -x c++ foo.c", "", "foo.o"),
    "gcc -c foo.cc": ("-E -fdirectives-only -x c++ foo.cc", "", "foo.o"),
    "gcc -c foo.C": ("-E -fdirectives-only -x c++ foo.C", "", "foo.o"),
    "g++ -xc -c foo.cc": ("-E -fdirectives-only -x c foo.cc", "", "foo.o"),
    "gcc -x c++ -c foo.txt": ("-E -fdirectives-only -x c++ foo.txt", "", "foo.o"),
    "gcc -x c++ -x none -c foo.c": ("-E -fdirectives-only -x c foo.c", "", "foo.o"),
    "gcc foo.c -c -x c++": ("-E -fdirectives-only -x c foo.c", "", "foo.o"),
    "gcc -O2 -Wall -std=c11 -fPIC -m64 -pipe -c foo.c": (
        "-O2 -Wall -std=c11 -fPIC -m64 -pipe -E -fdirectives-only -x c foo.c",
        "-O2 -Wall -std=c11 -fPIC -m64 -pipe",
        "foo.o",
    ),
    "gcc -DX=1 -D Y -UZ -U W -Ia -I b -c foo.c": (
        "-DX=1 -D Y -UZ -U W -Ia -I b -E -fdirectives-only -x c foo.c",
        "-DX=1 -D Y -UZ -U W",
        "foo.o",
    ),
    "gcc -include a.h -imacros b.h -isystem c -iquote d -idirafter e --sysroot=/s -c foo.c": (
        "-include a.h -imacros b.h -isystem c -iquote d -idirafter e --sysroot=/s -E -fdirectives-only -x c foo.c",
        "",
        "foo.o",
    ),
    "gcc -isystem/c -I- -c foo.c": ("-isystem/c -I- -E -fdirectives-only -x c foo.c", "", "foo.o"),
    "gcc --include-directory a --define-macro X -c foo.c": (
        "-I a -D X -E -fdirectives-only -x c foo.c",
        "-D X",
        "foo.o",
    ),
    "gcc -MD -c foo.c": ("-MD -MF foo.d -E -fdirectives-only -x c foo.c", "", "foo.o"),
    "gcc -MMD -MP -c src/foo.c": ("-MMD -MP -MF foo.d -E -fdirectives-only -x c src/foo.c", "", "foo.o"),
    "gcc -MD -c foo.c -o out/x.lo": (
        "-MD -MF out/x.d -MQ out/x.lo -E -fdirectives-only -x c foo.c",
        "",
        "out/x.lo",
    ),
    "gcc -MD -MT t -MF y.d -c foo.c -o x.o": (
        "-MD -MF y.d -MT t -E -fdirectives-only -x c foo.c",
        "",
        "x.o",
    ),
    "gcc -MD -MQt -MFy.d -c foo.c -o x.o": (
        "-MD -MF y.d -MQ t -E -fdirectives-only -x c foo.c",
        "",
        "x.o",
    ),
    "gcc -Wp,-MD,y.d -c foo.c -o x.o": ("-MD -MF y.d -E -fdirectives-only -x c foo.c", "", "x.o"),
    "gcc -Wp,-MMD,y.d,-MT,t,-DX -c foo.c": (
        "-DX -MMD -MF y.d -MT t -E -fdirectives-only -x c foo.c",
        "-DX",
        "foo.o",
    ),
    "clang -Wp,-MD,y.d -c foo.c -o x.o": (
        "-MD -MF y.d -MQ x.o -E -frewrite-includes -x c foo.c",
        "",
        "x.o",
    ),
    "gcc -march=x86-64-v2 --param l1-cache-size=4 --param=x=1 -c foo.c": (
        "-march=x86-64-v2 --param l1-cache-size=4 --param=x=1 -E -fdirectives-only -x c foo.c",
        "-march=x86-64-v2 --param l1-cache-size=4 --param=x=1",
        "foo.o",
    ),
    "gcc -flto -frandom-seed=1 -Wa,--noexecstack -Wl,-z,now -L /l -lm -c foo.c": (
        "-flto -frandom-seed=1 -Wa,--noexecstack -Wl,-z,now -L /l -lm -E -fdirectives-only -x c foo.c",
        "-flto -frandom-seed=1 -Wa,--noexecstack -Wl,-z,now -L /l -lm",
        "foo.o",
    ),
    "gcc -fno-modules -gz -g0 -pedantic -c foo.c": (
        "-fno-modules -gz -g0 -pedantic -E -fdirectives-only -x c foo.c",
        "-fno-modules -gz -g0 -pedantic",
        "foo.o",
    ),
    "clang++ -target x86_64-linux-gnu -stdlib=libc++ -mllvm -x -c foo.cc": (
        "-target x86_64-linux-gnu -stdlib=libc++ -mllvm -x -E -frewrite-includes -x c++ foo.cc",
        "-target x86_64-linux-gnu -stdlib=libc++ -mllvm -x",
        "foo.o",
    ),
}


def decided(line: str) -> Here | Away:
    words = shlex.split(line)
    return decide(words, CLANG if "clang" in words[0] else GCC)


@pytest.mark.parametrize("line", STAYS)
def test_what_stays_here_and_why(line: str) -> None:
    decision = decided(line)
    assert isinstance(decision, Here)
    assert STAYS[line] in decision.why


@pytest.mark.parametrize("line", AWAY)
def test_what_goes_away_in_which_words(line: str) -> None:
    away = decided(line)
    preprocess, options, output = AWAY[line]
    assert isinstance(away, Away)
    assert [*away.preprocess] == [away.compiler, *shlex.split(preprocess)]
    assert [*away.options] == shlex.split(options)
    assert away.output == output


def compiled(line: str, directory: str = "") -> list[str]:
    away = decided(line)
    assert isinstance(away, Away)
    return away.compile("object.o", directory)


def test_gcc_reads_preprocessed_source() -> None:
    words = [
        "gcc",
        "-O2",
        "-fpreprocessed",
        "-fdirectives-only",
        "-x",
        "cpp-output",
        "-c",
        "-",
        "-o",
        "object.o",
    ]
    assert compiled("gcc -O2 -c src/foo.c") == words


def test_with_debugging_information_gcc_reads_source_under_the_name_that_it_has_here() -> None:
    words = ["gcc", "-g", "-nostdinc", "-ffile-prefix-map=.source/=src/", "-x", "c", "-c", ".source/foo.c"]
    assert compiled("gcc -g -c src/foo.c") == [*words, "-o", "object.o"]
    assert "-ffile-prefix-map=.source/=" in compiled("gcc -g -c foo.c")


def test_debugging_information_names_the_folder_here() -> None:
    words = compiled("g++ -g -c foo.cc", "/home/a")
    assert "-fdebug-prefix-map=/proc/self/cwd=/home/a" in words


def test_clang_gets_its_source_under_the_name_that_it_has_here() -> None:
    assert compiled("clang -c s/foo.c")[1:5] == ["-Xclang", "-main-file-name", "-Xclang", "s/foo.c"]


def test_clang_gets_all_files_for_debugging_information() -> None:
    for line in ("-g", "-gdwarf-4", "-g0 -ggdb", "-g0", "-O2"):
        step = decided(f"clang {line} -Ia -MD -c foo.c")
        form = Form.REWRITTEN if line in ("-g0", "-O2") else Form.FILES
        assert isinstance(step, Away) and step.form is form
        assert [*step.command] == ["clang", *line.split(), "-Ia"]


def test_maps_of_paths_of_the_command_are_applied_before_ours_hide_them() -> None:
    line = "gcc -g -fdebug-prefix-map=/home=/x -ffile-prefix-map=/home/a=. -fmacro-prefix-map=/=/y -c /home/a/f.c"
    words = compiled(line, "/home/b")
    assert "-ffile-prefix-map=.source/=./" in words
    assert "-fdebug-prefix-map=/proc/self/cwd=/x/b" in words


def test_a_source_of_cpp_stays_one_when_it_is_preprocessed() -> None:
    assert "c++-cpp-output" in compiled("g++ -c foo.cc")
    assert compiled("clang++ -pedantic -c foo.cc")[-6:] == ["-x", "c++", "-c", "-", "-o", "object.o"]


def test_a_level_of_debugging_counts_as_the_last_option_says() -> None:
    for line, debug in {"-g": True, "-g -g0": False, "-g0 -g1": True, "-ggdb": True, "-gz": False}.items():
        away = decided(f"gcc {line} -c foo.c")
        assert isinstance(away, Away) and away.debug is debug


WORDS = st.sampled_from(
    sorted({word for line in [*STAYS, *AWAY] for word in shlex.split(line)[1:]} | {"-MT", "-MF", "-Wp,-MD"})
)


@given(st.lists(WORDS | st.text(max_size=5)), st.sampled_from(Family))
def test_any_words_are_understood_or_stay_here(words: list[str], family: Family) -> None:
    decision = decide(["cc", *words], family)
    if isinstance(decision, Here):
        assert decision.why
        return
    assert "-c" in words
    assert decision.source in words
    assert decision.preprocess[-1] == decision.source
    assert decision.compile("object.o", "/home")[-3:] == [decision.source_file or "-", "-o", "object.o"]
    assert decision.source not in decision.options


ORDERLESS = ["-O2", "-Wall", "-DX", "-Iinc", "-fPIC", "-MD", "-oout.o", "-std=c99", "-c", "foo.c"]


@given(st.permutations(ORDERLESS))
def test_the_order_of_options_is_kept_and_decides_nothing(words: list[str]) -> None:
    away = decide(["gcc", *words], GCC)
    assert isinstance(away, Away)
    assert (away.source, away.output) == ("foo.c", "out.o")
    kept = [word for word in words if word in ("-O2", "-Wall", "-DX", "-fPIC", "-std=c99")]
    assert [*away.options] == kept
    assert "out.d" in away.preprocess


def test_macros_for_the_preprocessor_alone_are_behind_all_others() -> None:
    """The drivers pass them on in this order, and some distributions set _FORTIFY_SOURCE this way."""
    words = ["gcc", "-Wp,-DX=2", "-O2", "-UX", "-c", "a.c"]
    away = decide(words, GCC)
    assert isinstance(away, Away)
    for found in (away.command, away.options):
        assert [word for word in found if "X" in word] == ["-UX", "-DX=2"]
