import itertools
from pathlib import Path

from pconnect.pool.neighbours import ask_neighbours
from pconnect.session.remote_calls import client_mesh
from srp_tools.generate import generate_srp_data
from srp_tools.steps import deadline_after
from tests.support.servers import connect, make_users, run_server
from tests.support.waiting import DEADLINE, wait_until


def test_servers_name_their_neighbours_without_lost_ones(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    generate_srp_data(member=True, folder=tmp_path / "users", bits=2048)
    state = [f"--spool-dir={tmp_path / 'state'}"]
    with (
        run_server(tmp_path / "a", *state, users=users) as alpha,
        run_server(tmp_path / "b", *state, f"--join={alpha.host}", users=users) as beta,
    ):
        wait_until(lambda: alpha.ask("members")["members"] != [], "beta to announce itself")
        with connect([alpha, beta, beta]) as net:
            mesh = client_mesh(net.mesh)
            servers = list(mesh.servers.values())
            answers = ask_neighbours(servers, mesh.event_loop, mesh.next_number, deadline_after(DEADLINE))
            assert sorted(answers) == [1, 2, 3] and answers[2]["id"] == answers[3]["id"]
            named = [answers[node]["members"][0]["name"] for node in (1, 2)]
            assert named == [beta.status["name"], alpha.status["name"]]
            assert [answers[node]["members"][0]["id"] for node in (2, 1)] == [
                answers[1]["id"],
                answers[2]["id"],
            ]
            alpha.process.kill()
            alpha.process.wait()
            for server in servers[1:]:
                server.command.close()
            answers = ask_neighbours(
                servers, mesh.event_loop, itertools.count(99).__next__, deadline_after(0.0)
            )
            assert answers == {}
