import pytest

from pserver.config.listen_options import check_server_name
from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_in_range(port: int) -> None:
    with pytest.raises(ConfigurationError, match=f"--cmd-port {port}: "):
        ServerConfig(cmd_port=port)
    with pytest.raises(ConfigurationError, match=f"--data-port {port}: "):
        ServerConfig(data_port=port)


def test_the_two_ports_differ() -> None:
    with pytest.raises(ConfigurationError, match="both 12502"):
        ServerConfig(cmd_port=12502, data_port=12502)


def test_both_ports_may_be_any_free_one() -> None:
    assert ServerConfig(cmd_port=0, data_port=0).data_port == 0


@pytest.mark.parametrize("name", ["default", "a", "node-1.lab_2", "x" * 64])
def test_usable_names(name: str) -> None:
    assert ServerConfig(name=name).name == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "..", ".hidden", "-option", "a b", "a\n", "a\0"])
def test_names_that_are_no_good_file_names(name: str) -> None:
    with pytest.raises(ConfigurationError, match="--name"):
        ServerConfig(name=name)
    with pytest.raises(ConfigurationError, match="--name"):
        check_server_name(name)


@pytest.mark.parametrize("bind", ["", "10.0.0.1,", ["10.0.0.1", ""]])
def test_an_empty_address_does_not_mean_all_of_them(bind: str | list[str]) -> None:
    with pytest.raises(ConfigurationError, match="an address is empty; leave"):
        ServerConfig(bind=bind)


def test_without_tls_only_this_machine_is_served_unless_it_is_bound_elsewhere() -> None:
    assert ServerConfig().addresses() == ()
    assert ServerConfig(use_tls=False).addresses() == ("127.0.0.1",)
    assert ServerConfig(use_tls=False, bind="10.0.0.1, ::1,10.0.0.1").addresses() == ("10.0.0.1", "::1")


def test_one_port_may_be_given_twice_where_one_is_enough() -> None:
    assert ServerConfig(cmd_port=12502, data_port=12502, one_port=True).one_port


def test_what_is_advertised_is_looked_at() -> None:
    assert ServerConfig(advertise="gate:7, other").advertise == ("gate:7", "other")
    assert ServerConfig(advertise=["gate", "gate"]).advertise == ("gate",)
    with pytest.raises(ConfigurationError, match="--advertise 'gate:x'"):
        ServerConfig(advertise=["gate:x"])


def test_without_tcp_there_is_a_login() -> None:
    assert not ServerConfig(use_tcp=False).use_tcp
    with pytest.raises(ConfigurationError, match="--no-tcp needs a login: leave out --no-tls"):
        ServerConfig(use_tcp=False, use_tls=False)
