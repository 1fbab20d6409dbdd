"""Parse a C or C++ compiler command, and decide whether another machine can run it. This module does no I/O.

A step can run on another machine if it makes one object from one source, and if all other files that the compiler reads
and writes are known. Then it becomes two steps: the preprocessor runs here, where the files are, the compiler there.

The object must be the same, byte for byte, as the object of a local compiler:

- Debugging information contains column numbers, so macros must not be expanded here. GCC's ``-fdirectives-only`` and
  Clang's ``-frewrite-includes`` include files and leave the rest unchanged. Warnings stay the same for the same reason.
- GCC records its options in debugging information, except options named ``-f…-prefix-map``. With debugging information,
  its second step therefore gets the source as if it were not preprocessed, in the folder ``.source/``, and an option
  that maps this name to that of the source's folder. Two kinds of steps must run here because this would show:
  ``-pedantic`` warns about line markers, and an address sanitizer writes the file's name into the object.
- Clang records checksums of files and the file of each line in debugging information, so it gets all files that it
  reads; see `source.clang_files`.
"""

import enum
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pconnect.shadow import compiler_options as options


class Family(enum.Enum):
    """A family of compilers with the same options."""

    GCC = "gcc"
    CLANG = "clang"


class Form(enum.Enum):
    """The form in which the source is sent."""

    #: For GCC: output of ``-fdirectives-only``, declared as preprocessed.
    PREPROCESSED = "preprocessed"
    #: For GCC with debugging information: the same text, declared as normal source.
    SOURCE = "source"
    #: For Clang: output of ``-frewrite-includes``.
    REWRITTEN = "rewritten"
    #: For Clang with debugging information: all files that it reads.
    FILES = "files"


#: The folder there for text declared as normal source. The file keeps the last part of its name.
SOURCE_FOLDER = ".source/"
#: GCC on Linux accepts this as the name of its working folder, whatever that is, if the variable ``PWD`` has it.
HERE_THERE = "/proc/self/cwd"

_DEPENDENCY_FILES = "-MD", "-MMD"
_PEDANTIC = (
    "-pedantic", "--pedantic", "-pedantic-errors", "--pedantic-errors", "-Wpedantic", "-Werror=pedantic",
    "-Wtraditional",
)  # fmt: skip
_PREFIX_MAP = re.compile(
    r"(?P<option>-f(?:file|debug|macro)-prefix-map)=(?P<old>[^=]*)=(?P<new>.*)", re.DOTALL
)
_DEBUG = re.compile(
    r"-g(?:gdb|line-tables-only|mlt|(?:dwarf|stabs\+?|btf|ctf)(?:-?(?P<dwarf>[2-9]))?)?(?P<level>\d)?"
)
_OF_ASSEMBLER = re.compile(
    r"--noexecstack|--execstack|--fatal-warnings|-W|--no-warn|--warn|-m[\w=.+-]+|--(32|64|x32)|-n?o?mbig-obj"
)
# Line markers escape quotes and the other characters; "=" separates the two halves of a prefix map.
_UNUSUAL = re.compile(r'[="\\\x00-\x1f\x7f-\U0010ffff]')
#: The end of the names of compilers that take even ".c" files for C++.
_OF_CPP = re.compile(r"[+][+](-[\d.]+)?$")


@dataclass(frozen=True)
class Here:
    """A command that must be run on this machine, and the reason."""

    why: str


@dataclass(frozen=True)
class Away:
    """A command that makes one object from one source and can run on another machine.

    Attributes
    ----------
    compiler
        The first word.
    family, form, language
        The family of the compiler, the form of the sent source, and ``c`` or ``c++``.
    source, output
        The names in the command, or the compiler's default name for the object.
    preprocess
        The words of the local step. It writes the source to send to standard output, and the dependency file if the
        command asks for one.
    command
        The compiler, and the words of the command for the preprocessor or for both steps.
    options
        The words of the remote step that do not depend on local paths.
    debug
        Whether the object has debugging information.
    pedantic
        Whether the compiler reports language extensions.
    prefix_maps
        Options that replace prefixes of paths in the object: name of the option, old prefix, new prefix.
    """

    compiler: str
    family: Family
    form: Form
    language: str
    source: str
    output: str
    preprocess: tuple[str, ...]
    command: tuple[str, ...]
    options: tuple[str, ...]
    debug: bool
    pedantic: bool
    prefix_maps: tuple[tuple[str, str, str], ...]

    def compile(self, output: str, directory: str) -> list[str]:
        """Return the words of the remote step, which reads `source_file` or its standard input.

        Parameters
        ----------
        output
            The name of the object on the other machine.
        directory
            The folder that debugging information must name; empty for none.
        """
        language, file = self.language, self.source_file or "-"
        if self.form is Form.REWRITTEN:
            extra = _to_clang("-main-file-name", self.source)
            # Line markers are an extension. Some versions warn about them, and others do not know the warning.
            extra += ["-Wno-unknown-warning-option", "-Wno-gnu-line-marker"] if self.pedantic else []
        elif self.form is Form.PREPROCESSED:
            extra = ["-fpreprocessed", "-fdirectives-only"]
            language = "cpp-output" if language == "c" else "c++-cpp-output"
        else:
            # The last map wins. `-nostdinc` keeps GCC from including its predefined header before the first line.
            folder = self.source.removesuffix(posixpath.basename(self.source))
            extra = ["-nostdinc", f"-ffile-prefix-map={SOURCE_FOLDER}={self._mapped(folder)}"]
            extra += [f"-fdebug-prefix-map={HERE_THERE}={self._mapped(directory)}"] if directory else []
        return [self.compiler, *self.options, *extra, "-x", language, "-c", file, "-o", output]

    @property
    def source_file(self) -> str:
        """The file with the source on the other machine; empty if the source is standard input."""
        return f"{SOURCE_FOLDER}{posixpath.basename(self.source)}" if self.form is Form.SOURCE else ""

    def _mapped(self, path: str) -> str:
        """Apply the command's own prefix maps to a path. The last matching map wins."""
        for option, old, new in reversed(self.prefix_maps):
            if path.startswith(old) and option != "-fmacro-prefix-map":
                return new + path[len(old) :]
        return path


def _to_clang(*words: str) -> list[str]:
    """Wrap options of Clang's compiler proper so that its driver passes them on."""
    return [part for word in words for part in ("-Xclang", word)]


class _RunsHere(Exception):  # noqa: N818 - it ends the parsing and is not an error
    """Raised by the parser with the reason why a command must be run here."""


@dataclass
class _Reading:
    """The state of the parser. `mapped`: options that replace prefixes of paths."""

    family: Family
    compiles: bool = False
    preprocess: list[str] = field(default_factory=list)
    compile: list[str] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)
    language: str = ""
    output: str = ""
    dependencies: list[str] = field(default_factory=list)
    dependency_file: str = ""
    given_to_driver: bool = False
    targets: list[str] = field(default_factory=list)
    mapped: list[tuple[str, str, str]] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # options that the driver passes on after all others
    debug_level: int = 0
    pedantic: bool = False

    def both(self, *words: str) -> None:
        self.preprocess += words
        self.compile += words


def decide(words: Sequence[str], family: Family) -> Here | Away:
    """Decide where to run a command.

    Parameters
    ----------
    words
        All words, with response files expanded; the first is the compiler.
    family
        The family of the compiler. Ask `compiler_versions`: a name such as ``cc`` does not determine it.
    """
    reading = _Reading(family)
    left = list(reversed(words[1:]))
    try:
        while left:
            _read(left.pop(), left, reading)
        return _away(words[0], reading)
    except _RunsHere as reason:
        return Here(str(reason))


def _argument(word: str, left: list[str]) -> str:
    if not left:
        raise _RunsHere(f"{word} has no argument")
    return left.pop()


def _read(word: str, left: list[str], reading: _Reading) -> None:
    """Read one word. If it takes an argument, pop it from `left`."""
    if word in options.HERE:
        raise _RunsHere(options.HERE[word])
    if not word.startswith("-"):
        reading.sources.append((word, reading.language))
    elif word == "-c":
        reading.compiles = True
    elif word.startswith("-o"):
        reading.output = word[2:] or _argument(word, left) or "-"  # compilers refuse an empty name
    elif word.startswith("-x"):
        reading.language = word[2:] or _argument(word, left)
    elif word.startswith(("-M", "-Wp,")):
        _read_dependencies(word, left, reading)
    elif word.startswith(options.MACROS):
        _read_joined(word, left, reading.both)
    elif word in options.LONG_FORMS:
        left.extend((_argument(word, left), options.LONG_FORMS[word]))
    elif name := next((name for name in options.PREPROCESSOR if word.startswith(name)), None):
        argument = [] if len(word) > len(name) else [_argument(word, left)]
        reading.preprocess += [word, *argument]
    elif word in options.WITH_ARGUMENT:
        reading.both(word, _argument(word, left))
    else:
        _read_option(word, reading)


def _read_joined(word: str, left: list[str], take: Callable[..., None]) -> None:
    take(word) if len(word) > 2 else take(word, _argument(word, left))


def _read_option(word: str, reading: _Reading) -> None:
    """Read an option without a separate argument."""
    if prefix := next((prefix for prefix in options.HERE_PREFIXES if word.startswith(prefix)), None):
        raise _RunsHere(f"{word} {options.HERE_PREFIXES[prefix]}")
    if options.NATIVE.match(word):
        raise _RunsHere(
            f"{word} depends on the processor of this machine; to compile on servers, set a rule that expands it"
        )
    if word.startswith("-Wa,") and _is_known_to_assembler(word) is False:
        raise _RunsHere(f"{word} may write a listing, or name files on this machine")
    if word.startswith(options.PREPROCESSOR_PREFIXES):
        reading.preprocess.append(word)
        return
    if not options.KNOWN.match(word):
        raise _RunsHere(f"the option {word} is unknown")
    if word.startswith("-g"):
        _read_debug(word, reading)
    elif word in _PEDANTIC:
        reading.pedantic = True
    elif found := _PREFIX_MAP.match(word):
        reading.mapped.append((found["option"], found["old"], found["new"]))
    reading.both(word)


def _is_known_to_assembler(word: str) -> bool:
    return all(_OF_ASSEMBLER.fullmatch(part) for part in word.split(",")[1:])


def _read_debug(word: str, reading: _Reading) -> None:
    """Read an option that begins with ``-g``. Only some of them turn on debugging information."""
    found = _DEBUG.fullmatch(word)
    if found is None:
        return
    if found["dwarf"]:
        reading.debug_level = reading.debug_level or 2
    else:
        reading.debug_level = int(found["level"] or 2)
    if reading.debug_level > 2 and reading.family is Family.GCC:
        raise _RunsHere(f"{word} records macros, which differ in preprocessed source")


def _read_dependencies(word: str, left: list[str], reading: _Reading) -> None:
    """Read an option for the dependency file, or ``-Wp,`` with options for the preprocessor."""
    if not word.startswith("-Wp,"):
        _read_dependency(word, lambda: _argument(word, left), reading)
        reading.given_to_driver |= word in _DEPENDENCY_FILES
        return
    parts = list(reversed(word.split(",")[1:]))
    while parts:
        part = parts.pop()
        if part in _DEPENDENCY_FILES:
            # Passed to the preprocessor itself, these options take the file's name. Clang's driver knows that.
            reading.dependencies.append(part)
            reading.dependency_file = _argument(word, parts)
            reading.given_to_driver |= reading.family is Family.CLANG
        elif part.startswith(options.MACROS):
            _read_joined(part, parts, lambda *words: reading.late.extend(words))
        elif part.startswith("-M"):
            _read_dependency(part, lambda: _argument(word, parts), reading)
        else:
            raise _RunsHere(f"{word} passes an unknown option")


def _read_dependency(word: str, argument: Callable[[], str], reading: _Reading) -> None:
    name, value = word[:3], word[3:]
    if word in (*_DEPENDENCY_FILES, "-MP"):
        reading.dependencies.append(word)
    elif name == "-MF":
        reading.dependency_file = value or argument()
    elif name in ("-MT", "-MQ"):
        reading.targets += [name, value or argument()]
    else:
        raise _RunsHere(f"the option {word} is unknown")


def _away(compiler: str, reading: _Reading) -> Away:
    """Return the parsed command, after all words were read."""
    if len(reading.sources) != 1:
        raise _RunsHere("there is more than one source" if reading.sources else "there is no source")
    source, given = reading.sources[0]
    language = _language(compiler, source, given)
    if not reading.compiles:
        raise _RunsHere("it links")
    if reading.output == "-" or f"{reading.dependency_file}/".startswith(("-/", "/dev/", "/proc/")):
        raise _RunsHere("it writes to standard output")
    if _UNUSUAL.search(source):
        raise _RunsHere(f"the name of {source!a} has unusual characters")
    reading.both(*reading.late)
    form = _form(reading)
    how = "-frewrite-includes" if reading.family is Family.CLANG else "-fdirectives-only"
    words = [*reading.preprocess, *_dependency_words(source, reading), "-E", how, "-x", language, source]
    return Away(
        compiler=compiler,
        family=reading.family,
        form=form,
        language=language,
        source=source,
        output=reading.output or f"{_stem(posixpath.basename(source))}.o",
        preprocess=(compiler, *words),
        command=(compiler, *reading.preprocess),
        options=tuple(reading.compile),
        debug=reading.debug_level > 0,
        pedantic=reading.pedantic,
        prefix_maps=tuple(reading.mapped),
    )


def _stem(path: str) -> str:
    """Return a path without the suffix of its name."""
    return posixpath.splitext(path)[0]


def _language(compiler: str, source: str, given: str) -> str:
    end = posixpath.splitext(source)[1]
    if given not in ("", "none", "c", "c++"):
        raise _RunsHere(f"its language is {given}")
    if given in ("c", "c++"):
        return given
    if end not in options.LANGUAGES:
        raise _RunsHere(options.OTHER_SOURCES.get(end, f"{source} is not a C or C++ source file"))
    return "c++" if _OF_CPP.search(compiler) else options.LANGUAGES[end]


def _form(reading: _Reading) -> Form:
    """Return the form in which the source can be sent."""
    if reading.family is Family.CLANG:
        return Form.FILES if reading.debug_level else Form.REWRITTEN
    if not reading.debug_level:
        return Form.PREPROCESSED
    if reading.pedantic:
        raise _RunsHere("-g together with -pedantic records how the source was preprocessed")
    if any(word.startswith("-fsanitize=") and "address" in word for word in reading.compile):
        raise _RunsHere("-g together with an address sanitizer records how the source was preprocessed")
    return Form.SOURCE


def _dependency_words(source: str, reading: _Reading) -> list[str]:
    """Return options for the dependency file of a local compiler, with the target that it would name."""
    if not set(_DEPENDENCY_FILES) & set(reading.dependencies):
        if reading.dependencies or reading.targets or reading.dependency_file:
            raise _RunsHere("it has options for a dependency file, but writes none")
        return []
    file = reading.dependency_file or f"{_stem(reading.output or posixpath.basename(source))}.d"
    targets = list(reading.targets)
    if reading.output and reading.given_to_driver and not targets:
        targets = ["-MQ", reading.output]
    return [*reading.dependencies, "-MF", file, *targets]
