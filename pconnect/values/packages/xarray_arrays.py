"""xarray variables, arrays and datasets: dimensions, data, attributes and coordinates as separate values."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read"]

_CODE: Final = 49


def _write_variable(variable: Any) -> tuple[object, ...]:
    if variable.chunks is not None:
        raise UnsupportedValueError("cannot send data that dask has not computed yet: send its compute()")
    data = variable.data
    if type(data) is not np.ndarray:
        raise UnsupportedValueError(f"cannot send a variable with data in {type(data)}: send its as_numpy()")
    if data.dtype == object:  # such as text; each item is a value
        data = [list(data.shape), data.ravel().tolist()]
    return list(variable.dims), data, dict(variable.attrs)


def _write_coordinates(value: Any) -> dict[Any, tuple[object, ...]]:
    for name, index in value.xindexes.items():
        if type(index) is not xr.indexes.PandasIndex:
            raise UnsupportedValueError(
                f"cannot send the index of {name!r}, a {type(index).__name__}: use reset_index first"
            )
        dtype = index.index.dtype
        if not isinstance(dtype, np.dtype) and dtype != "str":
            raise UnsupportedValueError(
                f"cannot send the index of {name!r}, which has the pandas dtype {dtype}: use drop_indexes first, or "
                "assign_coords with numpy dates, numbers or text"
            )
    return {name: _write_variable(coordinate.variable) for name, coordinate in value.coords.items()}


def _write_array(value: Any) -> tuple[object, ...]:
    return (
        "DataArray",
        value.name,
        _write_variable(value.variable),
        _write_coordinates(value),
        list(value.xindexes),
    )


def _write_dataset(value: Any) -> tuple[object, ...]:
    variables = {name: _write_variable(array.variable) for name, array in value.data_vars.items()}
    return "Dataset", variables, _write_coordinates(value), list(value.xindexes), dict(value.attrs)


def _make_variable(parts: Any) -> Any:
    match parts:
        case (list() as dims, data, dict() as attributes):
            if type(data) is list:
                shape, items = data
                # Other types, such as a range, could have more items than were sent.
                if type(shape) is not list or type(items) is not list:
                    raise ProtocolError("wrong parts for an xarray variable")
                array = np.empty(len(items), object)
                array[:] = items
                data = array.reshape(shape)
            if type(data) is np.ndarray:
                return xr.Variable(dims, data, attributes)
    raise ProtocolError("wrong parts for an xarray variable")


def _make_coordinates(parts: Any, indexed: Any) -> Any:
    if type(parts) is not dict or type(indexed) is not list:
        raise ProtocolError("wrong parts for xarray coordinates")
    variables = {name: _make_variable(variable) for name, variable in parts.items()}
    indexes = {
        name: xr.indexes.PandasIndex.from_variables({name: variables[name]}, options={}) for name in indexed
    }
    return xr.Coordinates(variables, indexes)


def _make(parts: list[Any]) -> Any:
    match parts:
        case ["Variable", variable]:
            return _make_variable(variable)
        case ["DataArray", name, variable, coordinates, indexed]:
            return xr.DataArray(_make_variable(variable), _make_coordinates(coordinates, indexed), name=name)
        case ["Dataset", dict() as variables, coordinates, indexed, dict() as attributes]:
            made = {name: _make_variable(variable) for name, variable in variables.items()}
            return xr.Dataset(made, _make_coordinates(coordinates, indexed), attributes)
    raise ProtocolError("wrong parts for an xarray value")


def read(parts: list[Any]) -> object:
    """Make a value from its received class and parts."""
    try:
        return _make(parts)
    except ProtocolError:
        raise
    except Exception as error:
        raise ProtocolError(f"not an xarray value: {error!s:.200}") from error


_ENTRIES: Final[Mapping[type, ValueType]] = {
    xr.Variable: ValueType(
        _CODE, (), lambda value: ("Variable", _write_variable(value)), read, ("class", "variable")
    ),
    xr.DataArray: ValueType(
        _CODE, (), _write_array, read, ("class", "name", "variable", "coords", "xindexes")
    ),
    xr.Dataset: ValueType(
        _CODE, (), _write_dataset, read, ("class", "data_vars", "coords", "xindexes", "attrs")
    ),
}


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of an xarray class, or ``None``."""
    return _ENTRIES.get(kind)
