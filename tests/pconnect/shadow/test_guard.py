from pconnect.shadow.guard import VARIABLE, is_inside


def test_what_a_stand_in_starts_is_inside() -> None:
    assert is_inside({VARIABLE: "gcc"})


def test_a_shell_is_not_inside() -> None:
    assert not is_inside({})
    assert not is_inside({VARIABLE: ""})
