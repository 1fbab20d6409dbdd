"""The wanted state of each host, derived from the options."""

from pathlib import Path

import pytest

from pserver.config.server_config import ServerConfig
from pserver.deploy.plan import make_plan, parse_targets
from pserver.deploy.ssh import Target
from srp_tools import generate_srp_data
from srp_tools.errors import ConfigurationError, CredentialError


@pytest.mark.parametrize(
    ("pythons", "setups", "alpha", "beta"),
    [
        ([], [], (None, None), (None, None)),
        (["py"], ["module load x"], ("py", "module load x"), ("py", "module load x")),
        (["beta=~/py", "py"], ["alpha=export A=1"], ("py", "export A=1"), ("~/py", None)),
        (["a", "b"], ["export A=1", "beta="], ("b", "export A=1"), ("b", "")),
    ],
)
def test_options_are_for_all_hosts_or_for_one(
    pythons: list[str], setups: list[str], alpha: tuple[str, str], beta: tuple[str, str]
) -> None:
    found = parse_targets(["alpha", "beta", "alpha"], pythons, setups)
    assert found == [Target("alpha", *alpha), Target("beta", *beta)]


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b"])
def test_what_is_no_name_for_ssh_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the name of a host"):
        parse_targets([host], [], [])


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return generate_srp_data("alice", bits=2048, folder=tmp_path).server


def test_the_servers_part_is_sent_with_the_secret_that_all_share_and_no_password(users: Path) -> None:
    plan = make_plan(ServerConfig(auth_file=users), [], None, force=False)
    assert sorted(plan.verifiers) == ["tpasswd", "tpasswd.conf", "tpasswd.seed"]
    assert plan.verifiers["tpasswd"] == users.read_bytes()
    assert plan.verifiers["tpasswd.seed"] == users.with_name("tpasswd.seed").read_bytes()
    names = [name for name, _ in plan.files(with_packages=True)]
    assert names == ["server/tpasswd", "server/tpasswd.conf", "server/tpasswd.seed", plan.wheel.name]
    assert [name for name, _ in plan.files(with_packages=False)] == names[:3]
    assert "--auth-file={place}/server/tpasswd" in plan.options
    assert "--log-file={place}/log" in plan.options


def test_the_members_file_goes_along(users: Path, tmp_path: Path) -> None:
    generate_srp_data(member=True, bits=2048, folder=tmp_path)
    plan = make_plan(ServerConfig(auth_file=users, join=["alpha"]), [], None, force=False)
    assert plan.verifiers["member"] == users.with_name("member").read_bytes()
    assert "--join=alpha" in plan.options


def test_other_options_are_those_of_the_server(users: Path) -> None:
    config = ServerConfig(auth_file=users, name="lab", cmd_port=4000, slots=3, log_file="/var/log/x")
    plan = make_plan(config, [], None, force=False)
    assert {"--name=lab", "--cmd-port=4000", "--slots=3", "--log-file=/var/log/x"} <= {*plan.options}
    plain = make_plan(ServerConfig(use_tls=False), [], None, force=False)
    assert plain.verifiers == {}
    assert "--no-tls" in plain.options
    assert not any(option.startswith("--auth-file") for option in plain.options)


def test_what_differs_makes_another_record(users: Path, tmp_path: Path) -> None:
    def record(
        packages: list[str] | None = None, python: str = "/py", slots: int | None = None
    ) -> dict[str, object]:
        config = ServerConfig(auth_file=users, slots=slots)
        return make_plan(config, packages or [], None, force=False).record(python, "3.12.1")

    first = record()
    assert record() == first
    assert record(["scipy"])["environment"] != first["environment"]
    assert record(python="/other")["environment"] != first["environment"]
    assert record(slots=1)["options"] != first["options"]
    assert record(slots=1)["environment"] == first["environment"]
    generate_srp_data("bob", bits=2048, folder=tmp_path)
    assert record()["users"] != first["users"]


def test_files_that_cannot_be_used_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="generate-srp-data"):
        make_plan(ServerConfig(auth_file=tmp_path / "missing"), [], None, force=False)
    with pytest.raises(ConfigurationError, match="no such folder"):
        make_plan(ServerConfig(), [], tmp_path / "missing", force=False)


def test_a_folder_of_wheels_is_sent(users: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/numpy.whl").write_bytes(b"x")
    plan = make_plan(ServerConfig(auth_file=users), [], tmp_path / "wheels", force=False)
    assert plan.files(with_packages=True)[-1] == ("wheels/numpy.whl", tmp_path / "wheels/numpy.whl")
