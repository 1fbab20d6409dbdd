"""The time that the server takes for a failed login does not reveal whether the user exists."""

from pathlib import Path

import pytest

from srp_tools.srp_groups import secret_power
from srp_tools.verifier import Verifier
from srp_tools.verifier_file import VerifierFile
from tests.benchmarks.login_timing import CASES, LIMIT, Lookup, compare, make_users, welch


def test_welch_is_that_of_the_textbook() -> None:
    # scipy.stats.ttest_ind(first, second, equal_var=False) says so.
    first = [19.8, 20.4, 19.6, 17.8, 18.5, 18.9, 18.3, 18.9, 19.5, 22.0]
    second = [28.2, 26.6, 20.1, 23.3, 25.2, 22.1, 17.7, 27.6, 20.6, 13.7, 23.2, 17.5, 20.6, 18.0, 23.9, 21.6]
    assert welch(first, second) == pytest.approx(-2.33956546804)
    assert welch(first, first) == 0


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_an_unknown_user_takes_the_time_of_a_wrong_password(case: str, tmp_path: Path) -> None:
    path = CASES[case](tmp_path)
    tries = []
    for _ in range(3):  # with equal times, one try in 200 exceeds the limit by chance
        tries.append(compare(path, 200))
        if all(abs(comparison.t) < LIMIT for comparison in tries[-1]):
            return
    pytest.fail(f"the timing reveals unknown users: {tries}")


@pytest.mark.slow
def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    def leaking(path: Path) -> Lookup:
        file = VerifierFile(path)

        def lookup(user: str) -> Verifier:
            found = file.lookup(user)
            if user not in file.users():
                secret_power(found.group.generator, found.verifier, found.group.prime)
            return found

        return lookup

    look, prove = compare(make_users(tmp_path, (2048,)), 100, leaking)
    assert look.t > LIMIT
    assert abs(prove.t) < 2 * LIMIT
