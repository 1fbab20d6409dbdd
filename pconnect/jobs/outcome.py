"""Turns the result message of a job into the outcome of its future."""

import functools
from typing import Any

from pconnect.commands.function_pickling import unpack_value
from pconnect.commands.remote_errors import blame_limit, remote_error
from pconnect.errors import JobLostError, ParallelError, ProtocolError, RemoteError, UnreadableValueError
from pconnect.jobs.job import DROPPED, FAILED, LOST, PICKLED, PLAIN, Job
from pconnect.jobs.late_result import Arrival
from pconnect.jobs.output_files import unpack_outputs
from pconnect.protocol.form_checks import is_number
from pconnect.protocol.messages import Unfinished
from pconnect.values.item_limit import Look


def settle(job: Job, result: Any) -> float | None:
    """End a job with its RESULT; return its duration in seconds, or ``None`` if the result is not decoded yet."""
    if type(result) is Unfinished and result.begins_with(PLAIN):
        job.finish(Arrival(functools.partial(_make, job, result)))
        return None
    value, error = _outcome(job, result)
    if error is None:
        job.finish(value)
    else:
        job.fail(error)
    return job.duration or 0.0


def _make(job: Job, result: Unfinished, look: Look) -> tuple[Any, BaseException | None]:
    """Decode a result into value and error; an interrupt or timeout leaves everything unchanged."""
    try:
        contents: Any = result.finish(look)
    except (KeyboardInterrupt, TimeoutError):
        raise
    except ParallelError as problem:
        return None, problem
    except BaseException as problem:  # noqa: BLE001 - decoding a registered type runs user code
        return None, _unreadable(job, problem)
    return _outcome(job, contents)


def _outcome(job: Job, result: Any) -> tuple[Any, BaseException | None]:
    try:
        if type(result) is Unfinished:  # the account of a failure
            result = result.finish()
        kind, value, *facts = result
        if facts:
            _take_facts(job, *facts)
        if kind == PICKLED:
            value = _unpickled(job, value)
        elif kind == FAILED:
            return None, _error(job, value)
        elif kind == LOST:
            return None, JobLostError(f"{job.name} is lost: {value}")
        elif kind != PLAIN:
            raise ProtocolError(f"the result of a job has the unknown kind {kind}")
    except ParallelError as problem:
        return None, problem
    except (TypeError, ValueError, LookupError, AttributeError) as problem:
        return None, ProtocolError(f"malformed result of a job: {problem!r}")
    except BaseException as problem:  # noqa: BLE001 - decoding a registered type runs user code
        return None, _unreadable(job, problem)
    return job.judge(value)


def _unpickled(job: Job, data: Any) -> Any:
    try:
        return unpack_value([True, data], allow_pickle=job.options.allow_pickle)
    except ProtocolError:
        raise  # the caller has not allowed pickle
    except BaseException as problem:
        raise _unreadable(job, problem) from problem


def _unreadable(job: Job, problem: BaseException) -> UnreadableValueError:
    text = f"{type(problem).__name__}: {problem}"
    error = UnreadableValueError(f"the result of {job.name} arrived, but cannot be decoded here: {text}")
    error.__cause__ = problem
    return error


def is_dropped(result: Any) -> bool:
    """Return whether a worker reports that it dropped a job before beginning it, as requested."""
    return isinstance(result, list) and result[:1] == [DROPPED]


def _take_facts(
    job: Job,
    began: float,
    seconds: float,
    output: list[Any] | None = None,
    files: dict[str, Any] | None = None,
) -> None:
    if not (is_number(began) and is_number(seconds)):
        raise ProtocolError("malformed result of a job: its times are not numbers")
    job.started, job.duration = began, seconds
    if output is not None:
        out, left_out, err, left_err = output
        take_output(job, (out, left_out), (err, left_err))
    if files is not None:
        job.outputs = unpack_outputs(files)


def take_output(job: Job, out: tuple[bytes, int], err: tuple[bytes, int]) -> None:
    """Store the output of a job; each stream is given as its last bytes and the number of bytes before them."""
    job.stdout, job.stderr = shown_output(*out), shown_output(*err)
    for stream, (data, left_out) in enumerate((out, err), 1):
        job.show(stream, left_out, data)


def shown_output(data: bytes, left_out: int) -> str:
    """Return the output of a job as text; the first line tells how many bytes are missing, if any."""
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
    except BaseException as problem:  # noqa: BLE001 - unpickling runs user code, and may lack modules
        error.add_note(f"The exception itself cannot be unpickled here: {type(problem).__name__}: {problem}")
        return error
    if not isinstance(original, BaseException):
        return error
    original.__cause__ = error
    return original
