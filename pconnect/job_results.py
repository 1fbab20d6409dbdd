"""What comes back from a job, made into the outcome of its future."""

from typing import Any

from pconnect.errors import ParallelError, ProtocolError, RemoteError
from pconnect.functions import unpack_value
from pconnect.jobs import DROPPED, FAILED, PICKLED, PLAIN, Job
from pconnect.protocol import Unfinished
from pconnect.remote_errors import remote_error


def settle(job: Job, result: Any) -> float:
    """End a job by its RESULT; return the seconds that it ran."""
    try:
        if type(result) is Unfinished:
            result = result.finish()
        kind, value, *facts = result
        if facts:
            job.started, job.duration = facts[0], facts[1]
            if len(facts) > 2:
                _take_output(job, facts[2])
        if kind == PLAIN:
            job.finish(value)
        elif kind == PICKLED:
            job.finish(unpack_value([True, value], allow_pickle=job.options.allow_pickle))
        elif kind == FAILED:
            job.fail(_error(job, value))
        else:
            raise ProtocolError(f"the result of a job of unknown kind {kind}")
    except ParallelError as error:
        job.fail(error)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        job.fail(ProtocolError(f"not the result of a job: {error!r}"))
    except Exception as error:  # noqa: BLE001 - unpickling runs code of the user's, and failed
        job.fail(error)
    return job.duration or 0.0


def is_dropped(result: Any) -> bool:
    """Whether a worker says that it has not begun a job, as it was told."""
    return isinstance(result, list) and result[:1] == [DROPPED]


def _take_output(job: Job, output: list[Any]) -> None:
    out, left_out, err, left_err = output
    job.stdout, job.stderr = shown_output(out, left_out), shown_output(err, left_err)


def shown_output(data: bytes, left_out: int) -> str:
    """Return what a job has printed as text, with a line in front that says how much is missing."""
    text = data.decode("utf-8", "replace")
    return f"({left_out} bytes before this are left out)\n{text}" if left_out else text


def _error(job: Job, failure: dict[str, Any]) -> BaseException:
    limit = job.options.time_limit
    if failure["type"] == "KeyboardInterrupt" and limit and (job.duration or 0.0) >= limit:
        message = f"the time limit of {limit:g} s passed"
        failure |= {"type": "TimeoutError", "bases": ["TimeoutError"], "message": message}
        failure["traceback"] = f"{failure['traceback'].rstrip()}\nTimeoutError: {message}"
    error: RemoteError = remote_error(job.node or 0, job.host or "", job.name, failure)
    data = failure.get("pickle")
    if data is None or not job.options.allow_pickle or job.cancel_asked:
        return error
    original: BaseException = unpack_value([True, data], allow_pickle=True)
    original.__cause__ = error
    return original
