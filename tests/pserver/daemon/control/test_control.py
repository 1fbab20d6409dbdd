import json
from pathlib import Path

from pconnect.link.local_link import connect
from pserver.daemon.control.control import Administered, Control
from pserver.daemon.control.endings import Endings
from pserver.duty.admission import Admission
from tests.pserver.daemon.control.conftest import Place
from tests.support.places import config


def test_a_request_at_the_socket_reaches_its_word(place: Place, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    admission = Admission(config, list)
    stopped: list[str] = []
    path = tmp_path / "one.control"
    control = Control(
        path,
        place.selector,
        Endings(),
        Administered(place.sessions, place.slots, admission, dict, dict, stopped.append, lambda: False),
    )
    with connect(path) as sock:
        sock.send(b'{"do": "release"}\n')
        while not stopped:
            place.turn()
            for part in control.loop_parts():
                part.step()
        assert json.loads(sock.recv(100)) == {"ok": {"sessions": 0}}
    assert "drained" in admission.refusal("alice")
    control.close()
    assert not path.exists()
