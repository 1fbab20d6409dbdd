"""Users and their verifiers, in the fastest group."""

from pathlib import Path

from srp_tools.credentials import Credentials
from srp_tools.verifier import Verifier, make_verifier

SMALL = 2048  # the fastest group
ALICE = Credentials("alice", "correct horse battery staple")
VERIFIER = make_verifier(ALICE, SMALL)


def verifier_of(user: str, password: str = "", bits: int = SMALL) -> Verifier:
    return make_verifier(Credentials(user, password or f"password of {user}"), bits)


def write(path: Path, text: str) -> None:
    """Write a private file as an administrator does with an editor."""
    path.write_text(text)
    path.chmod(0o600)
