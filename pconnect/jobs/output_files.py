"""Files that a job returns with its result."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pconnect.errors import ProtocolError
from pconnect.files.listing import Listing, is_inner_name
from pconnect.files.partial_file import part_of


class JobOutputs(Mapping[str, bytes]):
    """The files that a job left in the folder ``outputs`` of its `pconnect.jobs.worker_api.job_folder`: bytes by name.

    The names of files in subfolders contain ``/``.
    """

    def __init__(self, files: Mapping[str, tuple[int, npt.NDArray[np.uint8]]]) -> None:
        self._files = dict(files)

    def __getitem__(self, name: str) -> bytes:
        return self._files[name][1].tobytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name!r}: {data.nbytes} bytes" for name, (_, data) in self._files.items())
        return f"<outputs {{{sizes}}}>"

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write all files into a folder, which is created if necessary; return their paths.

        Each file appears only when it is complete, with the permissions it had on the worker.

        Raises `OSError` if a file could not be written. The files before it remain.
        """
        paths = []
        for name, (mode, data) in self._files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = part_of(path)
            try:
                with part.open("wb") as file:
                    file.write(data.data)
                part.chmod(mode & 0o777)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            paths.append(path)
        return paths


NO_OUTPUTS = JobOutputs({})


def pack_outputs(folder: Path, listing: Listing) -> dict[str, Any]:
    """Return the outputs as sent by a worker: permissions and contents of the files in a folder, by name."""
    return {facts.name: [facts.mode, np.fromfile(folder / facts.name, np.uint8)] for facts in listing.files}


def unpack_outputs(files: Any) -> JobOutputs:
    """Return the outputs that a worker has sent.

    Raises `ProtocolError` if they are malformed, or a name leads out of the folder.
    """
    found: dict[str, tuple[int, npt.NDArray[np.uint8]]] = {}
    if not isinstance(files, dict):
        raise ProtocolError("malformed outputs of a job: not a dict")
    for name, entry in files.items():
        match name, entry:
            case str(), [int(mode), np.ndarray(dtype=np.dtype(name="uint8"), ndim=1) as data] if (
                is_inner_name(name)
            ):
                found[name] = mode, data
            case _:
                raise ProtocolError(f"malformed output of a job: {name!r}")
    return JobOutputs(found)
