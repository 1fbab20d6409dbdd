from pathlib import Path

from srp_tools.generate import generate_srp_data
from tests.support.pools import announce
from tests.support.servers import connect, make_users, run_server
from tests.support.waiting import wait_until


def test_the_table_has_all_that_the_servers_know(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    generate_srp_data(member=True, folder=tmp_path / "users", bits=2048)
    state = f"--spool-dir={tmp_path / 'state'}"
    with (
        run_server(tmp_path / "a", state, users=users) as alpha,
        run_server(tmp_path / "b", state, f"--join={alpha.host}", "--slots=3", users=users) as beta,
    ):
        wait_until(lambda: alpha.ask("members")["members"] != [], "beta to announce itself")
        announce(alpha, id="77" * 16, name="far", addresses=["10.9.9.9"], advertised=True, cmd_port=9)
        beta.ask("join", host="127.0.0.1:1")
        with connect([alpha, beta, beta]) as net:
            rows = {row[0]: row for row in net.members()}
            assert rows[beta.status["name"]][:5] == [beta.status["name"], beta.host, 3, "2, 3", "here"]
            assert rows["far"][1:5] == ["10.9.9.9, 127.0.0.1:9", 2, "", "here"] and rows["far"][6] == "1"
            assert rows["127.0.0.1:1"][3:] == ["", "not reached", None, "2"]
            assert rows[alpha.status["name"]][3] == "1"
            assert len(net[2:].members()) == 2
