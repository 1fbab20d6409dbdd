from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pconnect.routes.location import Location
from pconnect.session.server import Server
from pconnect.views import pool_views
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
            assert alpha.ask("forget", what="77" * 16)["forgotten"][0]["name"] == "far"
            wait_until(lambda: "far" not in {row[0] for row in net.members()}, "alpha to tell its clients so")


def test_the_best_state_that_a_server_reports_counts() -> None:
    place = Location("10.0.0.1", 12502, 12501)
    sources = [SimpleNamespace(node=node, location=place) for node in (1, 2)]
    beta: dict[str, Any] = {
        "id": "11" * 16, "name": "beta", "addresses": ["beta"], "slots": 2, "how": "joined", "heard": 5.0,
        "gone": False, "why": "refused",
    }  # fmt: skip
    for other, state, heard in (
        ({"why": ""}, "here", 5.0),
        ({"gone": True}, "not reached", 5.0),
        ({"heard": 0.0}, "not reached", 0.0),
        ({"heard": None}, "not reached", 5.0),
    ):
        for both in ([beta, beta | other], [beta | other, beta]):
            known: dict[str, Any] = {}
            for member, source in zip(both, sources, strict=True):
                pool_views._note(known, member, cast("Server", source))
            [row] = [pool_views._row(each, []) for each in known.values()]
            assert row[4:6] == [state, heard]
