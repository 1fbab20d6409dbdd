"""The private folders of jobs, in their worker: created on demand, removed when the job ends."""

from pathlib import Path
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.files.listing import check_sizes, list_tree
from pconnect.jobs.output_files import pack_outputs
from pconnect.jobs.worker_api import job_number
from pconnect.protocol.messages import check_size
from pserver.services.files import SessionFiles
from pserver.system.session_folder import remove_folder

_OUTPUTS = "outputs"


class JobFolders:
    """The folder of the running job.

    `files`: the session's. `max_bytes`: limit for the total size of the outputs.
    """

    def __init__(self, files: SessionFiles, max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._folder: Path | None = None
        self._name: str | None = None

    def make(self, name: str | None) -> Path:
        """Return the folder of the running job; see `pconnect.jobs.worker_api.job_folder`."""
        if self._folder is None:
            folder = self._private() if name is None else self._files.find(name)
            Path(folder, _OUTPUTS).mkdir(parents=True, exist_ok=True)
            self._folder, self._name = folder, name
        elif name not in {None, self._name}:
            raise ConfigurationError(f"job_folder({name!r}): this job already has a folder, {self._folder}")
        return self._folder

    def _private(self) -> Path:
        jobs = self._files.session_folder / "jobs"
        jobs.mkdir(mode=0o700, exist_ok=True)
        folder = jobs / str(job_number())
        remove_folder(folder)  # left over if this job was lost before
        return folder

    def take_outputs(self) -> dict[str, Any] | None:
        """Return the output files of a job that has ended, if there are any, and remove its folder.

        Raises `ConfigurationError`, `MessageTooLargeError` or `OSError` if they cannot be sent. The folder is removed.
        """
        if self._folder is None:
            return None
        folder, name = self._folder, self._name
        self._folder = self._name = None
        try:
            outputs = folder / _OUTPUTS
            listing = list_tree(outputs)
            check_sizes(listing, outputs, self._files.max_file_size)
            check_size(sum(facts.size for facts in listing.files), self._max_bytes)
            return pack_outputs(outputs, listing) or None
        finally:
            if name is None:
                remove_folder(folder)
