"""A damaged users' file locks out only the users whose lines are bad."""

from pathlib import Path

import pytest

from pconnect.errors import AuthenticationError, ConnectError
from srp_tools.private_files import write_private
from tests.support.servers import make_users, run_server

BAD = b"\xef\xbb\xbf# users\r\nbob\r\nm\xfcller:1:2:3\ncarol:1:2:3\ncarol:1:2:3\ndave:1:2:99\n \na\0b:1:2:3\n"


def test_bad_lines_keep_nobody_else_out_and_the_log_names_them(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    path = users[1]
    path.with_name("tpasswd.seed").unlink()
    path.write_bytes(BAD + path.read_bytes())
    with run_server(tmp_path / "server", users=users) as server:
        server.connect().close()
        for fault in (
            f"{path}, line 2: the line does not have the form",
            f"{path}, line 3: the text is not UTF-8",
            f"{path}, lines 4, 5: the user 'carol' has more than one line",
            f"{path}, line 6: the user 'dave' cannot log in",
            f"{path}, line 8: the line contains a control character",
        ):
            assert server.log.count(f"WARNING in the users' file: {fault}") == 1
        # In one step, because the server reads the file now and then.
        write_private(path, "erin\n" + path.read_text(errors="surrogateescape"))
        for _ in range(2):
            server.connect().close()
        assert server.log.count(f"WARNING in the users' file: {path}, line 1: ") == 1
        for user in ("carol", "dave", "nobody"):
            with pytest.raises(AuthenticationError, match="the user name or the password was not accepted"):
                server.connect(user=user, password="x")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    with run_server(tmp_path / "server", users=users) as server:
        users[1].rename(tmp_path / "elsewhere")
        with pytest.raises(ConnectError):
            server.connect()
        server.wait_for_log(f"no user can log in: there is no file {users[1]}")
        (tmp_path / "elsewhere").rename(users[1])
        server.connect().close()
