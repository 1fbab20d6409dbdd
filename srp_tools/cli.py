"""The command that creates, lists, checks and removes users of servers. `srp_tools.generate` does the work.

The command never takes a password as an argument, because other users of the machine could see it there, and it never
prints one. A random password is in the client's file.
"""

import argparse
import contextlib
import getpass
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from srp_tools.credentials import (
    Credentials,
    check_user_name,
    is_member,
    load_credentials,
    member_name,
)
from srp_tools.errors import ConfigurationError, ParallelError
from srp_tools.generate import DEFAULT_MEMBER, account_name, generate_srp_data
from srp_tools.packages import ShowVersion
from srp_tools.printable import printable_name
from srp_tools.private_files import client_file as path_of_client
from srp_tools.private_files import member_file, server_file, server_folder
from srp_tools.rules.weak_passwords import GOOD_CHARACTERS, LEAST_CHARACTERS, weakness
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS
from srp_tools.verifier import check_password, fingerprint_of
from srp_tools.verifier_file import VerifierFile

# Far longer than any password; a longer line would be refused in any case.
_MAX_INPUT_BYTES = 65536

_EPILOG = """\
Without options, the command asks for a password twice. If you press Enter instead, it makes a
random password and stores it for the client, so you need not know it. An existing user is replaced.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        The arguments; ``None`` uses the arguments of the process.

    Returns
    -------
    int
        The exit status: 0, or 1 after an error message on standard error, or 130 after Ctrl-C. The request has been
        carried out completely or not at all, with one exception: if only the client's file could not be written, the
        new verifier is already in place, and the message says so.

    Raises
    ------
    SystemExit
        With status 2 for wrong usage, or 0 for ``--help``.
    """
    return run_command("generate-srp-data", lambda: _run(_parse(argv)))


def run_command(program: str, work: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    An error becomes a line on standard error and status 1; Ctrl-C gives status 130. If the reader of the output has
    gone, as in ``pserver status | head -1``, there is no message. The status is 1 if that stopped the command early.
    """
    try:
        status = work()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        status = 130
    except BrokenPipeError:
        status = 1
    except (ParallelError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        status = 1
    finally:  # --help, too, exits through here
        _flush_output()
    return status


def _flush_output() -> None:
    """Flush standard output. If its reader is gone, redirect it so that the interpreter's final flush does not fail."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="generate-srp-data",
        description="Create a login: a password for the client and a verifier for the servers.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--version", action=ShowVersion)
    add("user", nargs="?", metavar="USER", help="name of the user; default: the name of this account")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="print the names of all users")
    fingerprint_help = (
        "print a short digest of all users and one of each user, to compare with other machines"
    )
    action.add_argument("--fingerprint", action="store_true", help=fingerprint_help)
    action.add_argument(
        "--remove", metavar="USER", help="remove a user from the client's and the servers' files"
    )
    action.add_argument(
        "--verify", metavar="USER", help="check a password; the exit status is 0 if it is right, 1 if not"
    )
    source = parser.add_mutually_exclusive_group()
    random_help = "make a random password without asking (for scripts)"
    source.add_argument("--random", "--unattended", action="store_true", help=random_help)
    stdin_help = "read the password from standard input, which must contain nothing else (for scripts)"
    source.add_argument("--password-stdin", action="store_true", help=stdin_help)
    member_help = (
        "create the user that servers log in as to announce themselves to each other, with a random password"
    )
    add("--member", action="store_true", help=member_help)
    add("--bits", type=int, choices=list(GROUPS), help=f"size of the SRP group, default {DEFAULT_BITS}")
    weak_help = f"accept a password of fewer than {LEAST_CHARACTERS} characters"
    add("--allow-weak", action="store_true", help=weak_help)
    add("--no-client-file", action="store_true", help="do not store the password for the client")
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="use DIR/client and DIR/server instead of your configuration folder",
    )
    options = parser.parse_args(argv)
    _refuse_combinations(parser, options)
    return options


def _refuse_combinations(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that have no effect, or an unwanted effect, in combination."""
    making = {
        "USER": options.user,
        "--bits": options.bits,
        "--random": options.random,
        "--member": options.member,
        "--no-client-file": options.no_client_file,
        "--allow-weak": options.allow_weak,
    }
    if options.verify is None:
        making["--password-stdin"] = options.password_stdin
    actions = {
        "--list": options.list or None,
        "--fingerprint": options.fingerprint or None,
        "--remove": options.remove,
        "--verify": options.verify,
    }
    for action in (name for name, value in actions.items() if value is not None):
        for name in (name for name, value in making.items() if value not in (None, False)):
            parser.error(f"argument {name}: not allowed with argument {action}")
    if options.member and options.no_client_file:
        parser.error(
            "argument --no-client-file: not allowed with argument --member, whose file the servers need"
        )
    if options.random and options.no_client_file:
        parser.error(
            "argument --no-client-file: not allowed with a random password, which would be stored nowhere"
        )


def _run(options: argparse.Namespace) -> int:
    verifiers = VerifierFile(server_file(options.folder))
    client_path = path_of_client(options.folder)
    if options.list:
        for user in verifiers.users():
            print(user)
    elif options.fingerprint:
        _print_fingerprints(verifiers)
    elif options.remove is not None:
        path = member_file(options.folder) if is_member(options.remove) else client_path
        _remove(options.remove, verifiers, path)
    elif options.verify is not None:
        verifier = verifiers.find(options.verify)
        password = _read_line() if options.password_stdin else _ask(f"Password of {options.verify}: ")
        check_password(verifier, password)
        print(f"The password of {options.verify} is correct.")
    else:
        _make(options)
    _warn_of_faults(verifiers)
    return 0


def _print_fingerprints(verifiers: VerifierFile) -> None:
    """Print digests that are equal on machines with the same users. The digest of the whole file comes first."""
    salts = verifiers.salts()
    print(f"{fingerprint_of(salts)}  {verifiers.path}")
    for user, salt in salts:
        print(f"{fingerprint_of([(user, salt)])}  {printable_name(user)}")


def _warn_if_weak(credentials: Credentials) -> None:
    if why := weakness(credentials.password, credentials.user):
        advice = f"choose at least {GOOD_CHARACTERS} characters, or a random password with --random"
        print(
            f"generate-srp-data: warning: the password is easily guessed, because {why}: {advice}",
            file=sys.stderr,
        )


def _warn_of_faults(verifiers: VerifierFile) -> None:
    """Report the lines of the file that no login can use. They are left unchanged."""
    if verifiers.path.exists():
        for fault in verifiers.faults():
            print(f"generate-srp-data: warning: {fault}", file=sys.stderr)


def _make(options: argparse.Namespace) -> None:
    """Create one user in both files, and print their paths."""
    # Check the name before asking for a password.
    user = options.user if options.user is not None else DEFAULT_MEMBER if options.member else account_name()
    user = member_name(user) if options.member else user
    check_user_name(user)
    password = _choose_password(user, options)
    bits = DEFAULT_BITS if options.bits is None else options.bits
    verifiers = VerifierFile(server_file(options.folder))
    is_known = verifiers.path.exists() and user in verifiers
    made = generate_srp_data(
        user,
        password,
        bits=bits,
        folder=options.folder,
        client_file=not options.no_client_file,
        allow_weak=options.allow_weak,
        member=options.member,
    )
    if password is not None:
        _warn_if_weak(Credentials(user, password))
    print(f"{'Replaced' if is_known else 'Created'} user {user} ({bits}-bit group).")
    if is_known:
        print("Servers with the old file refuse the new password. Copy the new file to them.")
    print()
    if options.member:
        print(f"For servers that join a pool:       {made.client}")
    elif made.client is not None:
        print(f"For the client, with the password:  {made.client}")
    print(f"For the servers, with all users:    {made.server}")
    folder = shlex.quote(str(server_folder(options.folder)))
    target = _target(options.folder)
    option = "" if options.folder is None else f" --auth-file {shlex.quote(str(made.server))}"
    print(
        "\nEvery server needs a copy of the servers' file. This command installs it, with everything else it needs:\n\n"
        f"    pserver deploy HOST...{option}\n\n"
        "Or by hand, for each HOST:\n\n"
        f"    ssh HOST mkdir -p {target}\n"
        f"    scp -rp {folder} HOST:{target}/"
    )


def _target(folder: Path | None) -> str:
    """Return the folder for a copy on each host: relative to the home folder, unless `folder` is outside of it."""
    if folder is None or folder.absolute().is_relative_to(Path.home()):
        return ".config/pserver"
    return shlex.quote(str(folder.absolute()))


def _choose_password(user: str, options: argparse.Namespace) -> str | None:
    """Return the password for a new user from the source that the options select; ``None`` means a random one."""
    if options.password_stdin:
        return _read_line()
    if not options.random and not options.member:
        hint = "" if options.no_client_file else " (empty: make a random one)"
        password = _ask(f"New password for {user}{hint}: ")
        if password or options.no_client_file:
            if _ask("Repeat the password: ") != password:
                raise ConfigurationError("the two passwords differ; nothing was written")
            return password
    return None


def _ask(prompt: str) -> str:
    # Without this check, getpass would open the terminal behind a pipeline, or block a script that does not expect it.
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(
            "cannot ask for the password, because standard input is not a terminal; "
            "use --password-stdin, or --unattended for a random password"
        )
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise ConfigurationError("no password was given; nothing was written") from None


def _read_line() -> str:
    """Read one line from standard input and return it without its line end."""
    if sys.stdin is None:
        return ""
    # At a terminal, Enter ends the input. Otherwise read everything: the user may mean a second line as part of it.
    read = sys.stdin.buffer.readline if sys.stdin.isatty() else sys.stdin.buffer.read
    try:
        line = read(_MAX_INPUT_BYTES).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigurationError("the password on standard input is not UTF-8") from None
    if "\n" in line:
        raise ConfigurationError("standard input has more than one line; pass only the password")
    return line


def _remove(user: str, verifiers: VerifierFile, client_path: Path) -> None:
    """Remove a user from both files. It is enough if one of them has it."""
    in_client = client_path.exists() and load_credentials(client_path).user == user
    if not in_client or (verifiers.path.exists() and user in verifiers):
        verifiers.remove(user)
        print(f"Removed {user} from {verifiers.path}")
        print("Copy the servers' file to every server again; until then they still accept this user.")
    if in_client:
        client_path.unlink()
        print(f"Removed {client_path}")


if __name__ == "__main__":
    sys.exit(main())
