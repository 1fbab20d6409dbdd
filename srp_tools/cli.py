"""The `generate-srp-data` command: make, list, check and remove users.

It writes both parts: the client's file with the password, and the server's files with the verifier. A
password is never taken from the command line, where other users of the machine could see it, and never
printed: whoever wants to see a random one finds it in the client's file.
"""

import argparse
import contextlib
import getpass
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from srp_tools.credentials import Credentials, check_user_name, load_credentials, save_credentials
from srp_tools.errors import ConfigurationError, CredentialError, ParallelError
from srp_tools.packages import ShowVersion
from srp_tools.private_files import client_file, server_file, server_folder
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS
from srp_tools.verifier import check_password, make_verifier
from srp_tools.verifier_file import VerifierFile

# 192 bits: 128 are needed, and this makes 32 characters without a remainder.
_RANDOM_PASSWORD_BYTES = 24

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
    action.add_argument("--remove", metavar="USER", help="remove a user from both parts")
    action.add_argument(
        "--verify", metavar="USER", help="check a password: status 0 if it is right, 1 if not"
    )
    source = parser.add_mutually_exclusive_group()
    random_help = "ask nothing, make a random password (for scripts)"
    source.add_argument("--random", "--unattended", action="store_true", help=random_help)
    stdin_help = "read the password from standard input (for scripts)"
    source.add_argument("--password-stdin", action="store_true", help=stdin_help)
    add("--bits", type=int, choices=list(GROUPS), help=f"size of the group, default {DEFAULT_BITS}")
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
        "--no-client-file": options.no_client_file,
    }
    if options.verify is None:
        making["--password-stdin"] = options.password_stdin
    actions = {"--list": options.list or None, "--remove": options.remove, "--verify": options.verify}
    for action in (name for name, value in actions.items() if value is not None):
        for name in (name for name, value in making.items() if value not in (None, False)):
            parser.error(f"argument {name}: not allowed with argument {action}")
    if options.random and options.no_client_file:
        parser.error("argument --no-client-file: with a random password, nobody would know it")


def _run(options: argparse.Namespace) -> int:
    verifiers = VerifierFile(server_file(options.folder))
    client_path = client_file(options.folder)
    if options.list:
        for user in verifiers.users():
            print(user)
    elif options.remove is not None:
        _remove(options.remove, verifiers, client_path)
    elif options.verify is not None:
        verifier = verifiers.find(options.verify)
        password = _read_line() if options.password_stdin else _ask(f"Password of {options.verify}: ")
        check_password(verifier, password)
        print(f"The password is that of {options.verify}.")
    else:
        _make(options, verifiers, client_path)
    _warn_of_faults(verifiers)
    return 0


def _warn_of_faults(verifiers: VerifierFile) -> None:
    """Show the lines that nobody can log in with. They stay as they are."""
    if verifiers.path.exists():
        for fault in verifiers.faults():
            print(f"generate-srp-data: warning: {fault}", file=sys.stderr)


def _make(options: argparse.Namespace, verifiers: VerifierFile, client_path: Path) -> None:
    """Make the data of one user, in both parts, and say where they are."""
    # The name is checked before anything is asked.
    user = _account_name() if options.user is None else options.user
    check_user_name(user)
    password = _choose_password(user, options)
    bits = DEFAULT_BITS if options.bits is None else options.bits
    credentials = Credentials(user, password)
    verifiers.add(make_verifier(credentials, bits))
    if not options.no_client_file:
        try:
            save_credentials(credentials, client_path)
        except CredentialError as error:
            raise CredentialError(
                f"the server's part is written, but not the client's: {error}; then make the user anew"
            ) from error
    print(f"Made the user {user} ({bits}-bit group).")
    print()
    if not options.no_client_file:
        print(f"For the client, with the password:  {client_path}")
    print(f"For the servers, with all users:    {verifiers.path}")
    folder = shlex.quote(str(server_folder(options.folder)))
    print(
        "\nEvery server needs a copy of the servers' part; for each HOST:\n\n"
        "    ssh HOST mkdir -p .config/pserver\n"
        f"    scp -rp {folder} HOST:.config/pserver/"
    )


def _account_name() -> str:
    try:
        return getpass.getuser()
    # KeyError before Python 3.13: an account without a name, as some containers have.
    except (KeyError, OSError):
        raise ConfigurationError("this account has no name; give the USER") from None


def _choose_password(user: str, options: argparse.Namespace) -> str:
    """Return the password for a new user, from wherever the options say."""
    if options.password_stdin:
        return _read_line()
    if not options.random:
        hint = "" if options.no_client_file else " (empty: make a random one)"
        password = _ask(f"New password for {user}{hint}: ")
        if password or options.no_client_file:
            if _ask("The same again: ") != password:
                raise ConfigurationError("the two passwords differ; nothing was written")
            return password
    return secrets.token_urlsafe(_RANDOM_PASSWORD_BYTES)


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
    """Read one line from standard input, without its end."""
    line = b"" if sys.stdin is None else sys.stdin.buffer.readline(_MAX_INPUT_BYTES)
    try:
        return line.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigurationError("the password on standard input is not UTF-8") from None


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
