"""The messages of jobs: what a worker is sent to run one, and the codes of what it answers."""

from collections.abc import Mapping, Sequence

from pconnect.commands.function_pickling import pack_call
from pconnect.errors import UnsupportedValueError
from pconnect.jobs.job import Job
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message

# What a RESULT is: [code, value or account, when it began, seconds, output of both streams if there is any].
PLAIN, PICKLED, FAILED, DROPPED, LOST = range(5)  # the last is said by the server, for a worker that died


def encode_job(
    job: Job, args: Sequence[object], kwargs: Mapping[str, object], max_message_bytes: int
) -> Sequence[bytes | memoryview]:
    """Return the message for a job; arrays are sent from their own memory.

    Raises
    ------
    ConfigurationError, MessageTooLargeError
        The arguments cannot be sent.
    """
    assert job.function is not None  # noqa: S101 - the caller has found it
    number, options = job.function.number, job.options
    try:
        contents = [number, list(args), dict(kwargs), options.wire(pickled=False)]
        buffers = encode_message(Kind.JOB, job.number, contents, max_message_bytes)
    except UnsupportedValueError:
        _, _, arguments, _ = pack_call("", args, kwargs, pickled=True)
        contents = [number, arguments, None, options.wire(pickled=True)]
        buffers = encode_message(Kind.JOB, job.number, contents, max_message_bytes)
    return tuple(buffers)  # which the collector of garbage does not look at again and again, unlike a list
