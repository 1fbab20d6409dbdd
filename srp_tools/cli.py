"""The command that makes, lists, checks and removes the users of servers; `srp_tools.generate` is what makes them.

A password is never taken from the command line, where other users of the machine could see it, and never
printed: whoever wants to see a random one finds it in the client's file.
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

# Far more than any password; what follows on the line would be refused anyway.
_MAX_INPUT_BYTES = 65536

_EPILOG = """\
Without options it asks twice for a password; an empty answer makes a random one, which is
stored for the client and need not be known. A user who exists is replaced.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        The arguments; ``None`` stands for those of the process.

    Returns
    -------
    int
        The exit status: 0, or 1 after an error that was told on standard error, or 130 after Ctrl-C. What was
        asked for has been done wholly or not at all, with one exception: where only the client's file could
        not be written, the verifier is new already, and the text says so.

    Raises
    ------
    SystemExit
        With status 2 for wrong usage, 0 for ``--help``.
    """
    return run_command("generate-srp-data", lambda: _run(_parse(argv)))


def run_command(program: str, work: Callable[[], int]) -> int:
    """Do the work of a command and return its exit status.

    An error becomes a line on standard error and status 1, Ctrl-C status 130. Where the reader of the output has gone,
    as in ``pserver status | head -1``, nothing is said of it. The status is 1 if that kept something from being done.
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
    finally:  # also after --help, which ends the process
        _flush_output()
    return status


def _flush_output() -> None:
    """Write what was printed; if nobody reads it, let the interpreter find nothing to complain about at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="generate-srp-data",
        description="Make the data of a login: a password for the client and a verifier for the servers.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--version", action=ShowVersion)
    add("user", nargs="?", metavar="USER", help="default: the name of this account")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="print the names of all users")
    fingerprint_help = "print a short digest of all users, and of each, to compare with another machine's"
    action.add_argument("--fingerprint", action="store_true", help=fingerprint_help)
    action.add_argument("--remove", metavar="USER", help="remove a user from both parts")
    action.add_argument(
        "--verify", metavar="USER", help="check a password: status 0 if it is right, 1 if not"
    )
    source = parser.add_mutually_exclusive_group()
    random_help = "ask nothing, make a random password (for scripts)"
    source.add_argument("--random", "--unattended", action="store_true", help=random_help)
    stdin_help = "read the password from standard input, which has nothing else (for scripts)"
    source.add_argument("--password-stdin", action="store_true", help=stdin_help)
    member_help = "make the user as which servers announce themselves to each other, with a random password"
    add("--member", action="store_true", help=member_help)
    add("--bits", type=int, choices=list(GROUPS), help=f"size of the group, default {DEFAULT_BITS}")
    weak_help = f"take a password of fewer than {LEAST_CHARACTERS} characters"
    add("--allow-weak", action="store_true", help=weak_help)
    add("--no-client-file", action="store_true", help="do not store the password for the client")
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="use DIR/client and DIR/server, not the user's configuration",
    )
    options = parser.parse_args(argv)
    _refuse_combinations(parser, options)
    return options


def _refuse_combinations(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options without effect, or with an unwanted one."""
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
        parser.error("argument --no-client-file: not allowed with argument --member, whose file servers need")
    if options.random and options.no_client_file:
        parser.error("argument --no-client-file: with a random password, nobody would know it")


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
        print(f"The password is that of {options.verify}.")
    else:
        _make(options)
    _warn_of_faults(verifiers)
    return 0


def _print_fingerprints(verifiers: VerifierFile) -> None:
    """Print what is the same where the same users can log in; the file comes first."""
    salts = verifiers.salts()
    print(f"{fingerprint_of(salts)}  {verifiers.path}")
    for user, salt in salts:
        print(f"{fingerprint_of([(user, salt)])}  {printable_name(user)}")


def _warn_if_weak(credentials: Credentials) -> None:
    if why := weakness(credentials.password, credentials.user):
        advice = f"choose {GOOD_CHARACTERS} characters or more, or a random one with --random"
        print(
            f"generate-srp-data: warning: the password is easily guessed, because {why}: {advice}",
            file=sys.stderr,
        )


def _warn_of_faults(verifiers: VerifierFile) -> None:
    """Show the lines that nobody can log in with. They stay as they are."""
    if verifiers.path.exists():
        for fault in verifiers.faults():
            print(f"generate-srp-data: warning: {fault}", file=sys.stderr)


def _make(options: argparse.Namespace) -> None:
    """Make the data of one user, in both parts, and say where they are."""
    # The name is checked before anything is asked.
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
    print(f"{'Replaced' if is_known else 'Made'} the user {user} ({bits}-bit group).")
    if is_known:
        print("Servers that have the old file refuse the new password: copy the new one to them.")
    print()
    if options.member:
        print(f"For servers that join others:       {made.client}")
    elif made.client is not None:
        print(f"For the client, with the password:  {made.client}")
    print(f"For the servers, with all users:    {made.server}")
    folder = shlex.quote(str(server_folder(options.folder)))
    option = "" if options.folder is None else f" --auth-file {shlex.quote(str(made.server))}"
    print(
        "\nEvery server needs a copy of the servers' part. This command brings it there, with all that it needs:\n\n"
        f"    pserver deploy HOST...{option}\n\n"
        "Or by hand, for each HOST:\n\n"
        "    ssh HOST mkdir -p .config/pserver\n"
        f"    scp -rp {folder} HOST:.config/pserver/"
    )


def _choose_password(user: str, options: argparse.Namespace) -> str | None:
    """Return the password for a new user, from wherever the options say; ``None`` is to be a random one."""
    if options.password_stdin:
        return _read_line()
    if not options.random and not options.member:
        hint = "" if options.no_client_file else " (empty: make a random one)"
        password = _ask(f"New password for {user}{hint}: ")
        if password or options.no_client_file:
            if _ask("The same again: ") != password:
                raise ConfigurationError("the two passwords differ; nothing was written")
            return password
    return None


def _ask(prompt: str) -> str:
    # Without this check getpass would ask at the terminal of a pipeline, or wait for a script that does not
    # know.
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(
            "there is no terminal to ask for the password at; "
            "use --password-stdin, or --unattended for a random one"
        )
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise ConfigurationError("no password was given; nothing was written") from None


def _read_line() -> str:
    """Read standard input, which has one line, and return it without its end."""
    if sys.stdin is None:
        return ""
    # At a terminal the line ends it. Else what follows must be seen, since it may be meant as part of the password.
    read = sys.stdin.buffer.readline if sys.stdin.isatty() else sys.stdin.buffer.read
    try:
        line = read(_MAX_INPUT_BYTES).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigurationError("the password on standard input is not UTF-8") from None
    if "\n" in line:
        raise ConfigurationError("standard input has more than one line; give the password alone")
    return line


def _remove(user: str, verifiers: VerifierFile, client_path: Path) -> None:
    """Remove a user from both parts; it is enough to be in one."""
    in_client = client_path.exists() and load_credentials(client_path).user == user
    if not in_client or (verifiers.path.exists() and user in verifiers):
        verifiers.remove(user)
        print(f"Removed {user} from {verifiers.path}")
        print("Copy the servers' part anew to every server; until then they still know this user.")
    if in_client:
        client_path.unlink()
        print(f"Removed {client_path}")


if __name__ == "__main__":
    sys.exit(main())
