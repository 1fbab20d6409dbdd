"""The messages of jobs."""

import builtins
from typing import Any

import numpy as np
import pytest

from pconnect.jobs.function_cache import Functions
from pconnect.jobs.job import Job
from pconnect.jobs.wire import encode_job
from pconnect.protocol.decoder import decode_messages
from pconnect.protocol.kinds import Role
from pconnect.protocol.messages import Unfinished
from tests.support.workers import made


def a_job() -> Job:
    job = made()
    job.function = Functions().get(builtins.len)
    return job


@pytest.mark.parametrize(
    "args",
    [(), (1, None, 2.5, True, "x" * 99), ("x" * 100,), (2**70,), (b"data", [1, {"a": 2}]), (np.arange(3),)],
)
@pytest.mark.parametrize("kwargs", [{}, {"key": 1}])
def test_what_a_worker_gets(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    job = a_job()
    assert job.function is not None
    buffers = encode_job(job, args, kwargs, 2**20)
    (message,) = decode_messages(Role.WORKER, b"".join(bytes(buffer) for buffer in buffers))
    contents: Any = message.value.finish() if type(message.value) is Unfinished else message.value
    number, came, came_kwargs, options = contents
    assert (message.tag, number, came_kwargs, options) == (job.number, job.function.number, kwargs, None)
    assert repr(came) == repr(list(args))


def test_arguments_too_large_are_refused_here() -> None:
    job = a_job()
    with pytest.raises(ValueError, match="more than this network's max_message_bytes"):
        encode_job(job, [b"x" * 5000], {}, 4000)
