"""The functions that jobs can call; see `pconnect.jobs.worker_api`."""

from pconnect.jobs.worker_api import job_folder, job_number, progress

__all__ = ["job_folder", "job_number", "progress"]
