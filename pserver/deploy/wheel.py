"""A wheel of this package, built from its installed files.

Building it needs no package index, no source tree and no build tool: the hosts run the same files as this machine.
Equal files give equal bytes, so the digest of the wheel shows whether a host already has it.
"""

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PACKAGES = ("srp_tools", "pconnect", "pserver")
_ROOT = Path(__file__).parent.parent.parent
_FILES_OF_PAGES = "static"  # name of folders with files for browsers
# Metadata of one installation, not of the distribution.
_OF_THIS_INSTALLATION = {"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json", "uv_cache.json"}
_WHEEL = "Wheel-Version: 1.0\nGenerator: pserver-deploy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # earliest date in zip archives


class Wheel(NamedTuple):
    """A wheel in memory."""

    name: str  #: file name
    data: bytes

    def digest(self) -> str:
        """Return a digest of the contents."""
        return hashlib.sha256(self.data).hexdigest()


def make_wheel() -> Wheel:
    """Return the wheel of the running package."""
    distribution = _distribution()
    name = f"pserver-{distribution.version}"
    files = dict(sorted(_sources()))
    folder = f"{name}.dist-info"
    files |= dict(_description(distribution, folder))
    files[f"{folder}/WHEEL"] = _WHEEL.encode()
    files[f"{folder}/RECORD"] = _record(files, folder).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, _FIRST_DAY)
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return Wheel(f"{name}-py3-none-any.whl", archive.getvalue())


def _distribution() -> importlib.metadata.Distribution:
    """Return the installed distribution; in a source tree, its incomplete build folder may be found first."""
    found = list(importlib.metadata.distributions(name="pserver"))
    return next(
        (each for each in found if each.read_text("METADATA")), None
    ) or importlib.metadata.distribution("pserver")


def _sources() -> Iterator[tuple[str, bytes]]:
    for package in _PACKAGES:
        for path in (_ROOT / package).rglob("*"):
            if path.suffix == ".py" or path.name == "py.typed" or path.parent.name == _FILES_OF_PAGES:
                yield path.relative_to(_ROOT).as_posix(), path.read_bytes()


def _description(distribution: importlib.metadata.Distribution, folder: str) -> Iterator[tuple[str, bytes]]:
    """Return names, dependencies, commands and licence of the installation on this machine."""
    for path in sorted(distribution.files or [], key=str):
        if path.parts[0].endswith(".dist-info") and path.name not in _OF_THIS_INSTALLATION:
            yield "/".join([folder, *path.parts[1:]]), Path(str(path.locate())).read_bytes()


def _record(files: dict[str, bytes], folder: str) -> str:
    """Return the list of files with their digests (Binary distribution format, "The .dist-info directory")."""
    lines = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}\n")
    return "".join([*lines, f"{folder}/RECORD,,\n"])
