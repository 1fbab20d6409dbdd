"""What a command of a C or C++ compiler asks for, and whether another machine can do it. No input or output.

A step goes away if it makes one object of one source, and if what the compiler reads beside it and writes beside it
is known. Then it is two steps: the preprocessor runs here, where the files are, and the compiler there.

How an object becomes the same, byte for byte, as one of a local compiler:

- Debugging information has columns. So macros must not be expanded here: GCC's ``-fdirectives-only`` and Clang's
  ``-frewrite-includes`` include files and leave the rest as it is. It is also why warnings are the same.
- GCC records its options in debugging information, but none that begin with ``-f…-prefix-map``. So where there is such
  information its second step is not told that its source is preprocessed, but that ``.source/`` is to be called by the
  name of the source's folder. What it does otherwise then keeps a step here: being pedantic, it warns about marks of
  lines, and an address sanitizer writes the file's name into the object.
- Clang writes checksums of files, and which lines come from which file, into debugging information, so that it gets
  all files that it reads; see `source.clang_files`.
"""

import enum
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pconnect.shadow import compiler_options as options


class Family(enum.Enum):
    """Whose options a compiler has."""

    GCC = "gcc"
    CLANG = "clang"


class Form(enum.Enum):
    """In which form the source goes away."""

    #: With its directives, to GCC as preprocessed source.
    PREPROCESSED = "preprocessed"
    #: The same as if it were source that was never preprocessed, for debugging information.
    SOURCE = "source"
    #: As Clang rewrites it.
    REWRITTEN = "rewritten"
    #: As the files that Clang reads.
    FILES = "files"


#: Where source lies there that GCC is to take for source, so that it knows the last part of its name.
SOURCE_FOLDER = ".source/"
#: What GCC on Linux takes for its folder, whatever that is, if the variable ``PWD`` says so.
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
# Quotes and the like are written otherwise in marks of lines; "=" ends the first half of a map of names.
_UNUSUAL = re.compile(r'[="\\\x00-\x1f\x7f-\U0010ffff]')
#: The end of names of compilers to which also a source whose name ends in ".c" is C++.
_OF_CPP = re.compile(r"[+][+](-[\d.]+)?$")


@dataclass(frozen=True)
class Here:
    """A command that is run on this machine, and why."""

    why: str


@dataclass(frozen=True)
class Away:
    """A command that makes one object of one source.

    Attributes
    ----------
    compiler
        The first word.
    family, form, language
        Of the compiler, of what goes away, and ``c`` or ``c++``.
    source, output
        As the command names them, or as the compiler calls the object by default.
    preprocess
        The words of the step here, which writes the source that goes away to its standard output, and the file of
        dependencies if one is asked for.
    command
        The words of the command that are for both steps or the preprocessor.
    options
        The words of the step there that do not depend on where this one is.
    debug
        Whether there is debugging information in the object.
    pedantic
        Whether extensions are to be reported.
    prefix_maps
        Options that replace beginnings of paths in the object: their names, what is replaced, and by what.
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
        """Return the words of the step there, which reads `source_file` or its standard input.

        Parameters
        ----------
        output
            The object's name there.
        directory
            The folder that debugging information is to name; empty: none is named.
        """
        language, file = self.language, self.source_file or "-"
        if self.form is Form.REWRITTEN:
            extra = _to_clang("-main-file-name", self.source)
            # Marks of lines are an extension, of which some versions warn, and which others do not know.
            extra += ["-Wno-unknown-warning-option", "-Wno-gnu-line-marker"] if self.pedantic else []
        elif self.form is Form.PREPROCESSED:
            extra = ["-fpreprocessed", "-fdirectives-only"]
            language = "cpp-output" if language == "c" else "c++-cpp-output"
        else:
            # The last map counts. Without standard folders nothing is included before the first line.
            folder = self.source.removesuffix(posixpath.basename(self.source))
            extra = ["-nostdinc", f"-ffile-prefix-map={SOURCE_FOLDER}={self._mapped(folder)}"]
            extra += [f"-fdebug-prefix-map={HERE_THERE}={self._mapped(directory)}"] if directory else []
        return [self.compiler, *self.options, *extra, "-x", language, "-c", file, "-o", output]

    @property
    def source_file(self) -> str:
        """The file there that has the source; empty: standard input has it."""
        return f"{SOURCE_FOLDER}{posixpath.basename(self.source)}" if self.form is Form.SOURCE else ""

    def _mapped(self, path: str) -> str:
        """Return a path as the command's own options replace it; the last that fits counts."""
        for option, old, new in reversed(self.prefix_maps):
            if path.startswith(old) and option != "-fmacro-prefix-map":
                return new + path[len(old) :]
        return path


def _to_clang(*words: str) -> list[str]:
    """Return options of Clang's compiler for its driver, which does not know them."""
    return [part for word in words for part in ("-Xclang", word)]


class _StaysHere(Exception):  # noqa: N818 - it is how reading ends, not an error
    """Raised with the reason while words are read."""


@dataclass
class _Reading:
    """What has been read so far. `mapped`: options with which paths are replaced."""

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
    late: list[str] = field(default_factory=list)  # which the driver passes on behind all others
    debug_level: int = 0
    pedantic: bool = False

    def both(self, *words: str) -> None:
        self.preprocess += words
        self.compile += words


def decide(words: Sequence[str], family: Family) -> Here | Away:
    """Return what is to be done with a command.

    Parameters
    ----------
    words
        All words, with the compiler's name as the first, after response files were expanded.
    family
        Whose options it has. Ask `compiler_versions`: the name ``cc`` does not say it.
    """
    reading = _Reading(family)
    left = list(reversed(words[1:]))
    try:
        while left:
            _read(left.pop(), left, reading)
        return _away(words[0], reading)
    except _StaysHere as reason:
        return Here(str(reason))


def _argument(word: str, left: list[str]) -> str:
    if not left:
        raise _StaysHere(f"{word} has no argument")
    return left.pop()


def _read(word: str, left: list[str], reading: _Reading) -> None:
    """Read one word, and its argument, which is taken from `left`."""
    if word in options.HERE:
        raise _StaysHere(options.HERE[word])
    if not word.startswith("-"):
        reading.sources.append((word, reading.language))
    elif word == "-c":
        reading.compiles = True
    elif word.startswith("-o"):
        reading.output = word[2:] or _argument(word, left) or "-"  # a compiler refuses an empty name
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
    """Read a word that is an option of its own."""
    if prefix := next((prefix for prefix in options.HERE_PREFIXES if word.startswith(prefix)), None):
        raise _StaysHere(f"{word} {options.HERE_PREFIXES[prefix]}")
    if options.NATIVE.match(word):
        raise _StaysHere(
            f"{word} means the processor of this machine, unless a rule says that it is to be expanded"
        )
    if word.startswith("-Wa,") and _is_known_to_assembler(word) is False:
        raise _StaysHere(f"{word} may write a listing, or name files of this machine")
    if word.startswith(options.PREPROCESSOR_PREFIXES):
        reading.preprocess.append(word)
        return
    if not options.KNOWN.match(word):
        raise _StaysHere(f"the option {word} is not known here")
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
    """Read an option that begins with ``-g``, of which only some turn debugging information on."""
    found = _DEBUG.fullmatch(word)
    if found is None:
        return
    if found["dwarf"]:
        reading.debug_level = reading.debug_level or 2
    else:
        reading.debug_level = int(found["level"] or 2)
    if reading.debug_level > 2 and reading.family is Family.GCC:
        raise _StaysHere(f"{word} records macros, which differ in preprocessed source")


def _read_dependencies(word: str, left: list[str], reading: _Reading) -> None:
    """Read what asks for a file of dependencies, or a word for the preprocessor."""
    if not word.startswith("-Wp,"):
        _read_dependency(word, lambda: _argument(word, left), reading)
        reading.given_to_driver |= word in _DEPENDENCY_FILES
        return
    parts = list(reversed(word.split(",")[1:]))
    while parts:
        part = parts.pop()
        if part in _DEPENDENCY_FILES:
            # To the preprocessor itself these take the file's name; Clang's driver knows that.
            reading.dependencies.append(part)
            reading.dependency_file = _argument(word, parts)
            reading.given_to_driver |= reading.family is Family.CLANG
        elif part.startswith(options.MACROS):
            _read_joined(part, parts, lambda *words: reading.late.extend(words))
        elif part.startswith("-M"):
            _read_dependency(part, lambda: _argument(word, parts), reading)
        else:
            raise _StaysHere(f"{word} passes what is not known here")


def _read_dependency(word: str, argument: Callable[[], str], reading: _Reading) -> None:
    name, value = word[:3], word[3:]
    if word in (*_DEPENDENCY_FILES, "-MP"):
        reading.dependencies.append(word)
    elif name == "-MF":
        reading.dependency_file = value or argument()
    elif name in ("-MT", "-MQ"):
        reading.targets += [name, value or argument()]
    else:
        raise _StaysHere(f"the option {word} is not known here")


def _away(compiler: str, reading: _Reading) -> Away:
    """Return what the words ask for, after all were read."""
    if len(reading.sources) != 1:
        raise _StaysHere("there is more than one source" if reading.sources else "there is no source")
    source, given = reading.sources[0]
    language = _language(compiler, source, given)
    if not reading.compiles:
        raise _StaysHere("it links")
    if reading.output == "-" or f"{reading.dependency_file}/".startswith(("-/", "/dev/", "/proc/")):
        raise _StaysHere("it writes to standard output")
    if _UNUSUAL.search(source):
        raise _StaysHere(f"the name of {source!a} has unusual characters")
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
    """Return a path without the end of its name from the last dot on."""
    return posixpath.splitext(path)[0]


def _language(compiler: str, source: str, given: str) -> str:
    end = posixpath.splitext(source)[1]
    if given not in ("", "none", "c", "c++"):
        raise _StaysHere(f"its language is {given}")
    if given in ("c", "c++"):
        return given
    if end not in options.LANGUAGES:
        raise _StaysHere(options.OTHER_SOURCES.get(end, f"{source} is no source of C or C++"))
    return "c++" if _OF_CPP.search(compiler) else options.LANGUAGES[end]


def _form(reading: _Reading) -> Form:
    """Return the form in which the source can go away."""
    if reading.family is Family.CLANG:
        return Form.FILES if reading.debug_level else Form.REWRITTEN
    if not reading.debug_level:
        return Form.PREPROCESSED
    if reading.pedantic:
        raise _StaysHere("-g together with -pedantic records how the source was preprocessed")
    if any(word.startswith("-fsanitize=") and "address" in word for word in reading.compile):
        raise _StaysHere("-g together with an address sanitizer records how the source was preprocessed")
    return Form.SOURCE


def _dependency_words(source: str, reading: _Reading) -> list[str]:
    """Return options for the file that a local compiler would write, with the target it would name."""
    if not set(_DEPENDENCY_FILES) & set(reading.dependencies):
        if reading.dependencies or reading.targets or reading.dependency_file:
            raise _StaysHere("there are options for a file of dependencies that is not written")
        return []
    file = reading.dependency_file or f"{_stem(reading.output or posixpath.basename(source))}.d"
    targets = list(reading.targets)
    if reading.output and reading.given_to_driver and not targets:
        targets = ["-MQ", reading.output]
    return [*reading.dependencies, "-MF", file, *targets]
