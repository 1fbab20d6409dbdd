"""What comes back from a job, made into the outcome of its future."""

import logging
from typing import Any

from pconnect.commands.function_pickling import unpack_value
from pconnect.commands.remote_errors import blame_limit, remote_error
from pconnect.errors import JobLostError, ParallelError, ProtocolError, RemoteError, UnreadableValueError
from pconnect.jobs.job import DROPPED, FAILED, LOST, PICKLED, PLAIN, Job
from pconnect.jobs.output_files import unpack_outputs
from pconnect.protocol.messages import Unfinished

log = logging.getLogger("pconnect")


def settle(job: Job, result: Any) -> float:
    """End a job by its RESULT; return the seconds that it ran."""
    value, error = None, None
    try:
        if type(result) is Unfinished:
            result = result.finish()
        kind, value, *facts = result
        if facts:
            _take_facts(job, *facts)
        if kind == PICKLED:
            value = _unpickled(job, value)
        elif kind == FAILED:
            error = _error(job, value)
        elif kind == LOST:
            error = JobLostError(f"{job.name} is lost: {value}")
        elif kind != PLAIN:
            raise ProtocolError(f"the result of a job of unknown kind {kind}")
    except ParallelError as problem:
        error = problem
    except (TypeError, ValueError, LookupError, AttributeError) as problem:
        error = ProtocolError(f"not the result of a job: {problem!r}")
    except BaseException as problem:  # noqa: BLE001 - making a value of a registered type runs code of the user's
        error = _unreadable(job, problem)
    if error is None:
        job.finish(value)
    else:
        job.fail(error)
    return job.duration or 0.0


def _unpickled(job: Job, data: Any) -> Any:
    try:
        return unpack_value([True, data], allow_pickle=job.options.allow_pickle)
    except ProtocolError:
        raise  # the caller has not allowed it
    except BaseException as problem:
        raise _unreadable(job, problem) from problem


def _unreadable(job: Job, problem: BaseException) -> UnreadableValueError:
    text = f"{type(problem).__name__}: {problem}"
    error = UnreadableValueError(f"the result of {job.name} arrived, and cannot be made here: {text}")
    error.__cause__ = problem
    return error


def report(job: Job, value: Any) -> None:
    """Give a job what it has reported of its progress."""
    if type(value) is Unfinished:
        try:
            value = value.finish()
        except BaseException:
            log.exception("what %r reports of its progress cannot be made here", job)
            return
    job.report(value)


def is_dropped(result: Any) -> bool:
    """Whether a worker says that it has not begun a job, as it was told."""
    return isinstance(result, list) and result[:1] == [DROPPED]


def _take_facts(
    job: Job,
    began: float,
    seconds: float,
    output: list[Any] | None = None,
    files: dict[str, Any] | None = None,
) -> None:
    job.started, job.duration = began, seconds
    if output is not None:
        out, left_out, err, left_err = output
        job.stdout, job.stderr = shown_output(out, left_out), shown_output(err, left_err)
    if files is not None:
        job.outputs = unpack_outputs(files)


def shown_output(data: bytes, left_out: int) -> str:
    """Return what a job has printed as text, with a line in front that says how much is missing."""
    text = data.decode("utf-8", "replace")
    return f"({left_out} bytes before this are left out)\n{text}" if left_out else text


def _error(job: Job, failure: dict[str, Any]) -> BaseException:
    limit = job.options.time_limit
    if failure["type"] == "KeyboardInterrupt" and limit and (job.duration or 0.0) >= limit:
        blame_limit(failure, limit)
    error: RemoteError = remote_error(job.node or 0, job.host or "", job.name, failure)
    data = failure.get("pickle")
    if data is None or not job.options.allow_pickle or job.cancel_asked:
        return error
    try:
        original = unpack_value([True, data], allow_pickle=True)
    except BaseException as problem:  # noqa: BLE001 - unpickling runs code of the user's, or needs what is not here
        error.add_note(f"The exception itself cannot be unpickled here: {type(problem).__name__}: {problem}")
        return error
    if not isinstance(original, BaseException):
        return error
    original.__cause__ = error
    return original
