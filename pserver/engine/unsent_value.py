"""What becomes of the value of a job or a command that no message can have: it is kept here, by pickle."""

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
    """Keep a value that cannot be sent; return the error for the client, which says how to get it.

    `kind`: what has returned it, ``"job"`` or ``"command"``. `keep`: keeps its pickle, or returns why it does not.
    """
    text = str(error).replace("value[1]", "value", 1)  # it stands second in its message
    try:
        data = pickle_value(value)
    except BaseException as problem:  # noqa: BLE001 - whatever the user's __reduce__ raises
        cause = (
            problem.__cause__ or problem
        )  # `pickle_value` says what was to be sent, which stands here already
        return UnsupportedValueError(f"{text}; nor can it be pickled: {type(cause).__name__}: {cause}")
    why_not = keep(data)
    fate = (
        f"it was not kept: {why_not}"
        if why_not
        else f"its node keeps it, and {kind}.result(allow_pickle=True) fetches it"
    )
    return UnsupportedValueError(
        f"{text}; {fate}. allow_pickle=True lets it come by pickle at once: {_AT_ONCE[kind]}"
    )
