"""Options of GCC and Clang: options with an argument, preprocessor options, and options that force a local run.

An option that is in none of these tables and does not match `KNOWN` is unknown: its step runs locally.
"""

import re

_LOCAL_FILE = "names a file on this machine"
_MORE_OUTPUT = "writes more than an object file"
_NOT_A_STEP = "compiles nothing"
_PROFILE = "reads or writes profile data"
_MODULES = "uses precompiled headers or modules"
_DIFFERENT = "changes how the source is preprocessed"
_RECORDED = "records the command line"

#: Options that force a local run, with the reason.
HERE = {
    "-": "the source is standard input",
    "-E": "-E only preprocesses",
    "-S": "-S only writes assembly",
    "-M": "-M only lists dependencies",
    "-MM": "-MM only lists dependencies",
    "-fsyntax-only": "-fsyntax-only only checks the source",
    **{f"-{word}": f"-{word} {_NOT_A_STEP}" for word in ("v", "###", "-version", "-help", "-target-help")},
    **{
        word: f"{word} {_DIFFERENT}"
        for word in ("-P", "-C", "-CC", "-H", "-traditional", "-traditional-cpp", "-remap")
    },
    **{
        word: f"{word} {_DIFFERENT}" for word in ("-fpreprocessed", "-fdirectives-only", "-frewrite-includes")
    },
    **{word: f"{word} {_DIFFERENT}" for word in ("-fno-working-directory", "-MG", "-MJ", "-MV", "-nocpp")},
    **{word: f"{word} {_RECORDED}" for word in ("-frecord-gcc-switches", "-frecord-command-line")},
    **{word: f"{word} {_RECORDED}" for word in ("-grecord-command-line",)},
    **{
        word: f"{word} {_MORE_OUTPUT}"
        for word in ("-fstack-usage", "-aux-info", "-emit-llvm", "-fcompare-debug")
    },
    **{word: f"{word} {_MORE_OUTPUT}" for word in ("-ftest-coverage", "-time", "-ftime-report", "-Q")},
    **{word: f"{word} {_PROFILE}" for word in ("--coverage", "-coverage", "-fbranch-probabilities")},
    "-fmodules-ts": f"-fmodules-ts {_MODULES}",
    "-include-pch": f"-include-pch {_MODULES}",
    "-frepo": f"-frepo {_MORE_OUTPUT}",
    "-Xclang": "-Xclang passes an unknown option",
    "-Xpreprocessor": "-Xpreprocessor passes an unknown option",
    "-Xassembler": "-Xassembler passes an unknown option",
    "-arch": "-arch may ask for several objects",
    "-wrapper": "-wrapper names a program on this machine",
    "-specs": f"-specs {_LOCAL_FILE}",
    "-B": f"-B {_LOCAL_FILE}",
    "-Wunused-macros": "-Wunused-macros needs source that is not preprocessed",
    "-Werror=unused-macros": "-Werror=unused-macros needs source that is not preprocessed",
    "-Weverything": "-Weverything needs source that is not preprocessed",
}

#: Prefixes of options that force a local run, with the reason.
HERE_PREFIXES = {
    "-fprofile": _PROFILE,
    "-fno-profile": _PROFILE,
    "-fcs-profile": _PROFILE,
    "-fauto-profile": _PROFILE,
    "-fcoverage": _PROFILE,
    "-fmemory-profile": _PROFILE,
    "-gsplit-dwarf": _MORE_OUTPUT,
    "-fsanitize-coverage-allowlist": _LOCAL_FILE,
    "-fsanitize-coverage-ignorelist": _LOCAL_FILE,
    "-fbasic-block-sections=list": _LOCAL_FILE,
    "-save-temps": _MORE_OUTPUT,
    "--save-temps": _MORE_OUTPUT,
    "-fcallgraph-info": _MORE_OUTPUT,
    "-fsave-optimization-record": _MORE_OUTPUT,
    "-foptimization-record": _MORE_OUTPUT,
    "-fopt-info": _MORE_OUTPUT,
    "-fdump": _MORE_OUTPUT,
    "-foffload": _MORE_OUTPUT,
    "-d": _MORE_OUTPUT,
    "-fdiagnostics-format": _MORE_OUTPUT,
    "-ftime-trace": _MORE_OUTPUT,
    "-specs": _LOCAL_FILE,
    "--specs": _LOCAL_FILE,
    "-B": _LOCAL_FILE,
    "-fplugin": _LOCAL_FILE,
    "-fpass-plugin": _LOCAL_FILE,
    "-fsanitize-blacklist": _LOCAL_FILE,
    "-fsanitize-ignorelist": _LOCAL_FILE,
    "-fxray": _LOCAL_FILE,
    "-frandomize-layout-seed-file": _LOCAL_FILE,
    "-iplugindir": _LOCAL_FILE,
    "-fmodule": _MODULES,
    "-fcxx-modules": _MODULES,
    "-fimplicit-modules": _MODULES,
    "-fprebuilt": _MODULES,
    "-fpch": _MODULES,
    "-finput-charset": "changes the source before it is preprocessed",
    "-print-": _NOT_A_STEP,
    "--print-": _NOT_A_STEP,
    "--help": _NOT_A_STEP,
}

#: Options that only the preprocessor reads, with a joined or a separate argument.
PREPROCESSOR = (
    "-include", "-imacros", "-isystem", "-iquote", "-idirafter", "-isysroot", "-iprefix", "-iwithprefixbefore",
    "-iwithprefix", "-imultilib", "-imultiarch", "-iwithsysroot", "-iframework", "-ivfsoverlay", "-cxx-isystem",
    "-I",
)  # fmt: skip
#: Prefixes of one-word options that only the preprocessor reads.
PREPROCESSOR_PREFIXES = ("--sysroot=", "--gcc-toolchain=", "-fmax-include-depth", "-Wmissing-include-dirs")
#: Options for macros: the preprocessor reads them, and so does a compiler whose source still has directives.
MACROS = "-D", "-U", "-A"
#: Long forms of preprocessor options. They take their argument as the next word only.
LONG_FORMS = {
    "--include-directory": "-I",
    "--define-macro": "-D",
    "--undefine-macro": "-U",
    "--include": "-include",
}
#: Options whose argument is the next word, and that mean the same in both steps.
WITH_ARGUMENT = "--param", "-target", "-mllvm", "-Xlinker", "-L", "-l", "-u", "-T", "-z", "-gcc-toolchain"

#: Options that the other machine can handle.
KNOWN = re.compile(
    r"-(f|m|W|O|g|l|L|u|std=|stdlib=|rtlib=|unwindlib=|ansi$|pedantic|w$|pipe$|pthread$|pg?$|undef$|nostdinc"
    r"|nostdlib|nodefaultlibs|nostartfiles|static|shared|rdynamic$|s$|r$|n?o?-?pie$|trigraphs$|Qunused-arguments$"
    r"|integrated-as$|no-integrated-as$|no-canonical-prefixes$"
    r"|-param=|-target=|-std=|-pedantic|-gcc-toolchain=|-rtlib=|-unwindlib=|-sysroot=)"
)

#: Options that choose instructions for the processor of this machine.
NATIVE = re.compile(r"-m(arch|tune|cpu|fpu)=native")

_OF_C = {".c": "c"}
_OF_CPP = dict.fromkeys((".cc", ".cp", ".cxx", ".cpp", ".CPP", ".c++", ".C"), "c++")
#: The language of a source file, by its suffix.
LANGUAGES = {**_OF_C, **_OF_CPP}
OTHER_SOURCES = {
    **dict.fromkeys((".s", ".S", ".sx", ".asm"), "the source is assembly"),
    **dict.fromkeys((".i", ".ii", ".mi", ".mii", ".bc"), "the source is already preprocessed"),
    **dict.fromkeys(
        (".h", ".hh", ".H", ".hp", ".hxx", ".hpp", ".HPP", ".h++", ".tcc"), "it makes a precompiled header"
    ),
    **dict.fromkeys((".o", ".a", ".so", ".obj", ".lo"), "the input is not a source file"),
}
