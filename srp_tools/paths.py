"""Where the files of a login lie.

Below the user's configuration folder (``~/.config/pserver`` on Linux) there are two folders, apart so that an
administrator copies only the second to the servers:

.. code-block:: text

    client/credentials      one line, user:password
    server/tpasswd          the verifiers, see `srp_tools.verifier_file`
    server/tpasswd.conf     the groups that they are computed in
    server/tpasswd.seed     the secret behind the answers to unknown users
"""

from pathlib import Path

import platformdirs


def config_folder() -> Path:
    """Return the folder of this user's configuration. It need not exist."""
    return platformdirs.user_config_path("pserver", appauthor=False)


def client_file(folder: Path | None = None) -> Path:
    """Return the path of the client's file, below `folder` or the user's configuration folder."""
    return (config_folder() if folder is None else folder) / "client" / "credentials"


def server_folder(folder: Path | None = None) -> Path:
    """Return the folder with all that a server needs, below `folder` or the user's configuration folder."""
    return (config_folder() if folder is None else folder) / "server"


def server_file(folder: Path | None = None) -> Path:
    """Return the path of the server's verifiers, below `folder` or the user's configuration folder."""
    return server_folder(folder) / "tpasswd"
