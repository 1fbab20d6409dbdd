"""The command `pshadow`: install, remove and list stand-ins for programs."""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence

from pconnect.commands.table import Table
from pconnect.shadow.changes import changing, check_closed
from pconnect.shadow.in_place import InPlace, shadow_all
from pconnect.shadow.path_search import (
    candidates,
    find_program,
    find_prun,
    first_found,
    forwarder_of,
    is_same,
    needs_own_folder,
)
from pconnect.shadow.put_before import default_folder, put, stand_ins, take_away
from pconnect.shadow.stand_in import StandIn, check_name, read_stand_in
from pconnect.shadow.status import folders_in_place, is_before, path_line, rows_before, rows_in_place
from srp_tools.cli import run_command
from srp_tools.errors import ConfigurationError
from srp_tools.packages import ShowVersion

_EPILOG = """\
A stand-in passes a call of its program to prun, which runs it on a server or here, by the rules in prun.toml. Example:

    eval "$(pshadow on --export cc c++ gcc g++)"; make -j"$(prun --slots)"
"""
_HEADINGS = ["PROGRAM", "STAND-IN", "REAL", "HOW", "FIRST IN PATH", "PROBLEM"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    `argv`: the arguments; ``None`` stands for those of the process. Returns the exit status: 0; 1 after an error, which
    is written to standard error, or if `status` found a problem; 130 after Ctrl-C. Raises `SystemExit` with status 2
    for wrong usage, 0 for ``--help``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Shells evaluate the paths, so they must keep their exact bytes.
        sys.stdout.reconfigure(errors="surrogateescape")
    return run_command("pshadow", lambda: _run(_parser().parse_args(argv)))


def why_unsupported(platform: str) -> str:
    """Return why a platform, named as in `sys.platform`, does not support stand-ins; ``""`` if it supports them.

    Examples
    --------
    >>> why_unsupported("linux")
    ''
    """
    names = {"win32": "Windows", "cygwin": "Windows", "darwin": "macOS"}
    if platform.startswith("linux"):
        return ""
    return f"pshadow is not supported on {names.get(platform, platform)}: it needs Linux, like prun"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pshadow", description="Run programs on servers, without changing the commands that call them.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="on|off|status")
    on = commands.add_parser("on", help="install stand-ins for programs", allow_abbrev=False)
    off = commands.add_parser("off", help="remove stand-ins, all if no PROGRAM is named", allow_abbrev=False)
    status = commands.add_parser("status", help="list stand-ins and their problems", allow_abbrev=False)
    for each, count in ((on, "+"), (off, "*"), (status, "*")):
        each.add_argument("programs", nargs=count, metavar="PROGRAM", help="name of a program, such as gcc")
        each.add_argument("--dir", metavar="DIR", help=f"folder of stand-ins, default: {default_folder()}; "
                          "with --in-place: the folder of the programs, default: where PATH finds them")  # fmt: skip
    for each in (on, off):
        each.add_argument("--in-place", action="store_true",
                          help="replace the programs themselves, which are kept as PROGRAM_")  # fmt: skip
    on.add_argument("--export", action="store_true", help="print only shell commands, for eval")
    on.add_argument("--no-local", action="store_true",
                    help="never run a call here that should run on a server, even without a network")  # fmt: skip
    on.add_argument("--prun", metavar="FILE", help="the prun to use, default: the one of this installation")
    return parser


def _run(options: argparse.Namespace) -> int:
    if reason := why_unsupported(sys.platform):
        raise ConfigurationError(reason)
    if options.command == "status":
        return _status(options)
    if options.command == "off":
        return _off_in_place(options) if options.in_place else _off(options)
    return _on_in_place(options) if options.in_place else _on(options)


def _path() -> str:
    return os.environ.get("PATH", os.defpath)


def _folder(given: str | None) -> str:
    return default_folder() if given is None else os.path.abspath(given)  # noqa: PTH100 - it need not be valid text


# --- a folder before PATH ---


def _on(options: argparse.Namespace) -> int:
    folder = _folder(options.dir)
    if ":" in folder:
        raise ConfigurationError(
            f"{folder} cannot be in PATH because its name contains a colon; use another --dir"
        )
    prun = find_prun(options.prun, _path())
    others = ":".join(
        each for each in _path().split(":") if os.path.realpath(each) != os.path.realpath(folder)
    )
    wanted = {}
    for name in options.programs:
        check_name(name)
        wanted[name] = StandIn(find_program(name, others), prun, no_local=options.no_local)
    put(folder, wanted, {name: each.script(os.environ) for name, each in wanted.items()})
    is_first = is_before(folder, list(wanted), _path())
    if hint := _cc_hint(wanted, folder, others):
        print(hint, file=sys.stderr if options.export else sys.stdout)
    if options.export:
        # A shell caches the paths of programs until its PATH changes.
        print("hash -r" if is_first else path_line(folder))
        return 0
    for name, stand_in in wanted.items():
        print(f"{name}: {folder}/{name} stands in for {stand_in.program}")
    _print_forwarders(list(wanted), others)
    if is_first:
        print("They come first in PATH. In a shell that has already run one of them, run: hash -r")
    else:
        print(f"To use them, run this in each shell:\n\n    {path_line(folder)}\n")
    return 0


def _cc_hint(wanted: Mapping[str, StandIn], folder: str, path: str) -> str:
    """Return a hint if `make` would still call a shadowed compiler by its other name, ``cc``; else ``""``."""
    found = first_found("cc", path)
    if (
        not found
        or "cc" in stand_ins(folder)
        or not any(is_same(found, each.program) for each in wanted.values())
    ):
        return ""
    return f"cc is not shadowed; make uses it unless the Makefile sets CC: pshadow on cc {' '.join(wanted)}"


def _print_forwarders(names: list[str], path: str) -> None:
    for name in names:
        for each in candidates(name, path):
            if forwarder := forwarder_of(each):
                print(
                    f"{name}: {each} is {forwarder}; to keep using it, put its folder in PATH before the stand-ins"
                )


def _off(options: argparse.Namespace) -> int:
    folder = _folder(options.dir)
    gone = take_away(folder, options.programs)
    for name in gone:
        print(f"{name}: stand-in removed")
    for name in options.programs:
        if name not in gone:
            print(f"{name}: has no stand-in in {folder}")
    if gone:
        print("In a shell that has already run one of them, run: hash -r")
    elif not options.programs:
        print(f"there are no stand-ins in {folder}")
    return 0


# --- in place ---


def _place(program: str, folder: str | None) -> tuple[str, str]:
    """Return the folder and the name of a program to shadow in place."""
    given, name = os.path.split(program)
    check_name(name)
    if given and folder is not None:
        raise ConfigurationError(f"{program} names a folder, and so does --dir; give only one of them")
    if folder is None and not given:
        given = os.path.dirname(find_program(name, _path()))  # noqa: PTH120
    return os.path.realpath(folder or given), name


def _on_in_place(options: argparse.Namespace) -> int:
    prun = find_prun(options.prun, _path())
    places = [_place(program, options.dir) for program in options.programs]
    folder = places[0][0]
    if others := [f"{place}/{name}" for place, name in places if place != folder]:
        raise ConfigurationError(f"{others[0]} is not in {folder}; run pshadow once for each folder")
    wanted = {name: _in_place(folder, name, prun, options).script(os.environ) for _, name in places}
    with changing(folder):
        check_closed(folder)
        shadow_all(InPlace(folder), wanted)
    if not options.export:
        for name in wanted:
            print(f"{name}: {folder}/{name} is now a stand-in for {folder}/{name}_")
        print("All users now run them through prun. To restore the programs, run: pshadow off --in-place")
    return 0


def _in_place(folder: str, name: str, prun: str, options: argparse.Namespace) -> StandIn:
    path = f"{folder}/{name}"
    before = read_stand_in(path)
    program = path if before is None or not before.in_place else f"{path}_"
    own_folder = needs_own_folder(program)
    return StandIn(path, prun, in_place=True, own_folder=own_folder, no_local=options.no_local)


def _places_off(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the folders in which to restore programs, with the programs' names. An empty list stands for all.

    The key ``""`` has the programs that are shadowed in no folder.
    """
    if options.dir is not None and not options.programs:
        return {os.path.realpath(options.dir): []}
    found = folders_in_place(_path())
    if not options.programs:
        return {folder: [] for folder in found}
    places: dict[str, list[str]] = {}
    for program in options.programs:
        if options.dir is not None or "/" in program:
            folders = [_place(program, options.dir)[0]]
        else:
            folders = [folder for folder in found if program in InPlace(folder).names()]
        for folder in folders or [""]:
            places.setdefault(folder, []).append(os.path.basename(program))  # noqa: PTH119
    return places


def _off_in_place(options: argparse.Namespace) -> int:
    places = _places_off(options)
    said = [f"{name}: is not shadowed in place in a folder of PATH" for name in places.pop("", [])]
    faults = []
    for folder, names in places.items():
        with changing(folder):
            programs = InPlace(folder)
            for name in names or programs.names():
                try:
                    said.append(f"{name}: {folder}/{name} {programs.off(name).value}")
                except ConfigurationError as error:  # the other programs are still restored
                    faults.append(f"pshadow: {error}")
            programs.tidy()
    if not said and not faults and not options.programs:
        said.append("there are no stand-ins in place")
    print(*said, sep="\n", end="\n" if said else "")
    print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0


# --- status ---


def _status(options: argparse.Namespace) -> int:
    folders = [_folder(options.dir)] if options.dir is not None else [default_folder()]
    in_place = folders_in_place(_path())
    if options.dir is not None:
        in_place = [os.path.realpath(options.dir)]
    rows = [row for folder in folders for row in rows_before(folder, _path())]
    rows += [row for folder in in_place for row in rows_in_place(folder, _path())]
    shown = [row for row in rows if not options.programs or row.program in options.programs]
    if shown:
        print(Table(_HEADINGS, shown))
    else:
        print("there are no stand-ins" + (f" for {', '.join(options.programs)}" if options.programs else ""))
    return 1 if any(row.wrong for row in shown) else 0


if __name__ == "__main__":
    sys.exit(main())
