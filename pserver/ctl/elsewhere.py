"""A request to a server on another machine, over the channel of a login, and its answer."""

from collections.abc import Mapping
from typing import Any

from pconnect.errors import ConfigurationError, ProtocolError
from pconnect.link.dialing import receive_packed, send_packed
from pconnect.values import decoder
from pserver.system.descriptors import json_object
from srp_tools.channel import Channel
from srp_tools.steps import Steps

_MAX_ANSWER_BYTES = 2**24


def request_over(channel: Channel, request: Mapping[str, object], host: str) -> Steps[dict[str, Any]]:
    """Send a request and return the facts of the answer; `host`: the server as the user named it.

    Raises `ConfigurationError` if the server refuses the request, `ProtocolError` if its answer is invalid.
    """
    yield from send_packed(channel, dict(request))
    told = json_object((yield from _receive(channel)))
    if isinstance(error := told.get("error"), str):
        raise ConfigurationError(f"{host}: {error}")
    facts = told.get("ok")
    if not isinstance(facts, dict):
        raise ProtocolError(f"the server at {host} sent an invalid answer")
    return facts


def _receive(channel: Channel) -> Steps[bytes]:
    answer = b""
    while len(answer) < _MAX_ANSWER_BYTES:
        match decoder.unpack((yield from receive_packed(channel))):
            case {"part": bytes(part), "is_last": bool(is_last)}:
                answer += part
                if is_last:
                    return answer
            case _:
                break
    raise ProtocolError("the server sent an answer that is too long or malformed")
