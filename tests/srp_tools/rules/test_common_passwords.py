from srp_tools.rules.common_passwords import COMMON


def test_the_commonest_are_in_it() -> None:
    assert {"password", "letmein", "iloveyou", "dragon", "admin"} <= COMMON
