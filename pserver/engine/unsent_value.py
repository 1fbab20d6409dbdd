"""Handle the value of a job or a command that no message can carry: keep its pickle on the node."""

from collections.abc import Callable

from pconnect.commands.function_pickling import pickle_value
from pconnect.errors import UnsupportedValueError

_AT_ONCE = {
    "job": "net.submit(..., allow_pickle=True), net.map(..., allow_pickle=True)",
    "command": "net.eval(..., allow_pickle=True), net.call(..., allow_pickle=True)",
}


def keep_unsent(
    error: UnsupportedValueError, value: object, kind: str, keep: Callable[[bytes], str]
) -> UnsupportedValueError:
    """Keep a value that cannot be sent; return the error for the client, which says how to get the value.

    `kind`: its source, ``"job"`` or ``"command"``. `keep`: keeps its pickle, or returns the reason why not.
    """
    text = str(error).replace("value[1]", "value", 1)  # the value is the second item in its message
    try:
        data = pickle_value(value)
    except BaseException as problem:  # noqa: BLE001 - the user's __reduce__ may raise anything
        cause = problem.__cause__ or problem  # `pickle_value` names the value, as `text` already does
        return UnsupportedValueError(f"{text}; nor can it be pickled: {type(cause).__name__}: {cause}")
    why_not = keep(data)
    fate = (
        f"it was not kept: {why_not}"
        if why_not
        else f"its node keeps it, and {kind}.result(allow_pickle=True) fetches it"
    )
    return UnsupportedValueError(
        f"{text}; {fate}; to send it by pickle, pass allow_pickle=True: {_AT_ONCE[kind]}"
    )
