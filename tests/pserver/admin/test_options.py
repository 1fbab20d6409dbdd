"""One declaration of each option serves the command line, the keywords and the documentation."""

import dataclasses
import inspect

import pytest

from pserver import pserver
from pserver.admin.options import CommandParser, add_options, config_of, start_options
from pserver.cli import main
from pserver.config.server_config import ServerConfig

FIELDS = dataclasses.fields(ServerConfig)


def parse_start(options: list[str]) -> ServerConfig:
    parser = CommandParser()
    add_options(parser)
    return config_of(parser.parse_args(options))


def test_every_setting_reaches_the_daemon() -> None:
    settings = ServerConfig(
        name="n",
        cmd_port=1,
        data_port=2,
        bind=["::1", "10.0.0.1"],
        auth_file="/a b",
        log_file="-l",
        allow_root=True,
        slots=6,
        max_startups="3:40:500",
        login_processes=2,
        proof_timeout=3.5,
        max_failures=7,
        allow_users=["alice", "b c"],
        allow_from="10.0.0.0/8,::1",
        login_timeout=4.5,
        silence_timeout=5.5,
        spool_dir="/s p",
        keep_results=0.5,
        max_file_size=6 * 2**30,
    )
    assert parse_start(start_options(settings)) == settings
    assert parse_start(start_options(ServerConfig(use_tls=False))) == ServerConfig(use_tls=False)
    assert parse_start(start_options(ServerConfig())) == ServerConfig()
    assert parse_start(start_options(ServerConfig(slots=0))).slots == 0
    assert parse_start([]) == ServerConfig()
    repeated = parse_start(["--allow-users=alice,bob", "--allow-users", "carol"])
    assert repeated.allow_users == ("alice", "bob", "carol")
    assert parse_start(start_options(repeated)) == repeated


def test_several_addresses_are_all_kept() -> None:
    assert parse_start(["--bind=10.0.0.1", "--bind", "::1,[fd00::2]"]).bind == ("10.0.0.1", "::1", "fd00::2")
    assert parse_start(["--bind=::1", "--bind=::1"]).bind == ("::1",)
    assert parse_start(["--slots=2", "--slots=3"]).slots == 3  # the last value wins, as usual


def test_the_function_has_all_options_with_their_defaults() -> None:
    action, *keywords = inspect.signature(pserver).parameters.values()
    assert (action.name, action.default, action.kind) == ("action", None, action.POSITIONAL_ONLY)
    assert [(each.name, each.default) for each in keywords] == [(each.name, each.default) for each in FIELDS]
    assert {each.kind for each in keywords} == {inspect.Parameter.KEYWORD_ONLY}


def test_every_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["start", "--help"])
    usage = " ".join(capsys.readouterr().out.split())
    described = " ".join(inspect.getdoc(pserver).split())  # type: ignore[union-attr]
    for field in FIELDS:
        option = field.metadata["option"]
        assert option.help in usage
        assert f" {field.name} {option.help}" in described
        flag = (option.flags or (f"--{field.name.replace('_', '-')}",))[0]
        assert f" {flag} " in usage.replace(",", " ")
    assert "Default: 12502." in usage
    assert "Default: one for each processor." in usage
    assert "{options}" not in described


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--slts=4", "did you mean --slots?"),
        ("--no-tsl", "did you mean --no-tls?"),
        ("--q", "known: --help, "),
    ],
)
def test_an_unknown_option_names_the_nearest(
    argument: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["start", argument])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: pserver start ")
    assert f"unrecognized arguments: {argument} ({hint}" in error


def test_the_hint_has_neither_hidden_options_nor_one_for_each_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["start", "--q", "3"])
    error = capsys.readouterr().err
    assert "--foreground) 3\n" in error
    assert "--lifeline" not in error


def test_an_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"^pserver\(\) has no option 'slot' \(did you mean slots\?\)$"):
        pserver(slot=4)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"no option 'x' \(known: name, cmd_port, "):
        pserver("kill", x=4)  # type: ignore[call-overload]


def test_a_type_checker_knows_the_options() -> None:
    """mypy reports each comment below that it does not need."""
    if hasattr(pserver, "nothing"):  # never run
        pserver(slots="4")  # type: ignore[call-overload]
        pserver(auth_file="users")["pid"]
        pserver("kill", name="one").bit_length()
