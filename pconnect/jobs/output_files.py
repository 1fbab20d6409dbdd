"""Files that come back with a job."""

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
    """What a job has left in the folder ``outputs`` of its `pconnect.jobs.worker_api.job_folder`: bytes by name.

    Names of files in folders have ``/`` between their parts.
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
        """Write all files into a folder, which is made if it is not there; return their paths.

        Each takes its place when it is complete, with the permissions that it had at the job.

        Raises `OSError` if one could not be written. Those before it are there.
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
    """Return what a worker sends: permissions and contents of the files in a folder, by name."""
    return {facts.name: [facts.mode, np.fromfile(folder / facts.name, np.uint8)] for facts in listing.files}


def unpack_outputs(files: Any) -> JobOutputs:
    """Return what a worker has sent.

    Raises `ProtocolError` if it is not what workers send, or a name leads out of its folder.
    """
    found: dict[str, tuple[int, npt.NDArray[np.uint8]]] = {}
    if not isinstance(files, dict):
        raise ProtocolError("the outputs of a job are no dict")
    for name, entry in files.items():
        match name, entry:
            case str(), [int(mode), np.ndarray(dtype=np.dtype(name="uint8"), ndim=1) as data] if (
                is_inner_name(name)
            ):
                found[name] = mode, data
            case _:
                raise ProtocolError(f"not an output of a job: {name!r}")
    return JobOutputs(found)
