"""The tables of options agree with each other, and with the compilers as far as these list their options."""

import re
import subprocess

from pconnect.shadow import compiler_options as options
from tests.support.programs import program


def test_an_option_is_in_one_table() -> None:
    tables = [options.HERE, options.MACROS, options.LONG_FORMS, options.WITH_ARGUMENT, options.PREPROCESSOR]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))


def test_reasons_are_words() -> None:
    reasons = [*options.HERE.values(), *options.HERE_PREFIXES.values(), *options.OTHER_SOURCES.values()]
    assert all(re.fullmatch(r"[-a-zA-Z+#=_ ,0-9]+", reason) for reason in reasons)


def test_what_chooses_the_processor_of_this_machine() -> None:
    found = [
        word for word in ("-march=native", "-mtune=native", "-mcpu=native") if options.NATIVE.match(word)
    ]
    assert len(found) == 3
    assert not options.NATIVE.match("-march=x86-64")


def test_all_options_of_gcc_that_take_a_separate_argument_are_in_a_table() -> None:
    """GCC itself lists these options."""
    gcc = program("gcc", "gcc")
    letters = subprocess.run([gcc, "--help=separate,c"], capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^  (-\S+) ", letters, re.MULTILINE))
    known = {
        *options.PREPROCESSOR,
        *options.MACROS,
        *options.WITH_ARGUMENT,
        *options.HERE,
        *options.LONG_FORMS,
    }
    here = tuple(options.HERE_PREFIXES)
    own = {"-o", "-MF", "-MT", "-MQ", "-MD", "-MMD", "-F"}  # parsed separately; -F is unknown on purpose
    left = {name for name in listed if not name.startswith(("--", *here))} - known - own
    assert {name for name in left if options.KNOWN.match(name) and not name.endswith("=")} == set()
