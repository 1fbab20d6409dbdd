"""Wheels of this package's requirements, rebuilt from the installed files, so tests need no index."""

import importlib.metadata
import re
import zipfile
from pathlib import Path

_REQUIRED = re.compile(r"[A-Za-z0-9._-]+")


def make_wheels(folder: Path) -> Path:
    """Put the wheels of this package's requirements into a folder; return the folder."""
    folder.mkdir()
    waiting, done = ["pserver"], set[str]()
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        if distribution.name in done:
            continue
        done.add(distribution.name)
        for line in distribution.requires or []:
            name = _REQUIRED.match(line)
            # Requirements of extras or other platforms may not be installed.
            if name and "extra ==" not in line and (";" not in line or _is_installed(name[0])):
                waiting.append(name[0])
        if distribution.name != "pserver":
            _make_wheel(distribution, folder)
    return folder


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _make_wheel(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    name = re.sub(r"[-_.]+", "_", distribution.name)
    tags = re.findall(r"^Tag: (\w+)-(\w+)-(\w+)", distribution.read_text("WHEEL") or "", re.MULTILINE)
    assert tags, f"{distribution.name} was not installed from a wheel"
    tag = "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*tags, strict=True))
    # Not compressed: compression took longer than everything else.
    with zipfile.ZipFile(folder / f"{name}-{distribution.version}-{tag}.whl", "w") as wheel:
        for path in distribution.files or []:
            if not path.parts[0].startswith("..") and "__pycache__" not in path.parts:
                wheel.write(str(path.locate()), str(path))
