"""Hostile Arrow streams, and values that are not written."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values import encoder
from pconnect.values.arrow import read, read_stream, write_stream

TABLE = pa.table(
    {"a": [1, 2, None], "b": ["x", "y", "z"], "d": pa.array(["p", "q", "p"]).dictionary_encode()}
)


def stream_of(table: Any, **options: Any) -> Any:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


@pytest.mark.parametrize("method", ["lz4", "zstd"])
@pytest.mark.parametrize("columns", [["a"], ["d"], ["a", "b", "d"]])
def test_compressed_streams_are_refused(method: str, columns: list[str]) -> None:
    table = TABLE.select(columns)
    assert read_stream(stream_of(table)).equals(table)
    with pytest.raises(ProtocolError, match="compressed"):
        read_stream(stream_of(table, compression=method))


def test_extension_types_are_not_written() -> None:
    with pytest.raises(UnsupportedValueError, match=r"^value\['a'\]: cannot send Arrow extension types"):
        encoder.encode({"a": pa.array([b"x" * 16], pa.uuid())})
    with pytest.raises(UnsupportedValueError, match="extension types"):
        write_stream(pa.table({"n": pa.ListArray.from_arrays([0, 1], pa.array([b"x" * 16], pa.uuid()))}))


def test_extension_types_are_refused_before_arrow_makes_them() -> None:
    made = []

    class Spy(pa.ExtensionType):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(pa.int64(), "test.spy")

        def __arrow_ext_serialize__(self) -> bytes:
            return b"what is received"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> "Spy":
            made.append((storage, serialized))
            return cls()

    stream = stream_of(pa.table({"a": pa.ExtensionArray.from_storage(Spy(), pa.array([1]))}))
    pa.register_extension_type(Spy())
    try:
        with pytest.raises(ProtocolError, match="extension type"):
            read_stream(stream)
        assert made == []
        pa.ipc.open_stream(stream)
        assert made != []  # as it would be for Arrow
    finally:
        pa.unregister_extension_type("test.spy")


UNION = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
UNIONS = [
    UNION,
    UNION.slice(1),
    pa.StructArray.from_arrays([UNION], ["x"]),
    pa.DictionaryArray.from_arrays(pa.array([0]), pa.StructArray.from_arrays([UNION], ["x"])),
    pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.StructArray.from_arrays([UNION], ["x"])),
]


@pytest.mark.parametrize("array", UNIONS)
def test_unions_are_refused(array: Any) -> None:
    # Arrow crashes when it computes the size of an empty union that lacks its buffers.
    with pytest.raises(UnsupportedValueError, match=r"^value\[0\]: cannot send Arrow unions"):
        encoder.encode([array])
    with pytest.raises(ProtocolError, match="union"):
        read_stream(stream_of(pa.table([array], names=["a"])))


def test_offsets_beyond_the_text_are_refused() -> None:
    stream = stream_of(pa.table({"s": ["ab", "cd"]})).copy()
    at = bytes(stream).index(np.array([0, 2, 4], "<i4").tobytes())
    stream[at + 4] = 200
    with pytest.raises(ProtocolError, match="malformed Arrow stream"):
        read_stream(stream)


def test_columns_that_share_their_memory_are_refused() -> None:
    stream = stream_of(pa.table({"a": ["x" * 10000], "b": [""]})).copy()
    # Offset and length of each buffer: validity, offsets, text. The second column gets the text of the first.
    layout = np.array([0, 0, 0, 8, 8, 10000, 10008, 0, 10008, 8, 10016, 0], "<i8")
    at = bytes(stream).index(layout.tobytes())
    stream[at + 80 : at + 96].view("<i8")[:] = [8, 10000]
    text = bytes(stream).index(b"x" * 10000)
    stream[text + 10004 : text + 10008].view("<i4")[:] = 10000
    with pytest.raises(ProtocolError, match="overlap"):
        read_stream(stream)


def test_streams_end_where_they_end() -> None:
    stream = stream_of(TABLE)
    for wrong in (
        stream[:0], stream[:-1], stream[:-16], stream[:100], stream[8:], stream[:-8].view("i1"), stream.reshape(1, -1),
        np.concatenate([stream, stream]), np.concatenate([stream, np.zeros(8, np.uint8)]), bytes(stream), None,
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            read_stream(wrong)


def test_a_schema_comes_first_and_once() -> None:
    schema, other = (
        TABLE.schema.serialize().to_pybytes(),
        pa.schema([("z", pa.int8())]).serialize().to_pybytes(),
    )
    end = stream_of(TABLE)[-8:].tobytes()
    batch = TABLE.select(["a"]).to_batches()[0].serialize().to_pybytes()
    tensor = pa.BufferOutputStream()
    pa.ipc.write_tensor(pa.Tensor.from_numpy(np.ones(2)), tensor)
    assert read_stream(np.frombuffer(schema + end, np.uint8)).num_rows == 0
    for wrong in (
        end,
        schema + other + end,
        batch + end,
        tensor.getvalue().to_pybytes() + end,
    ):
        with pytest.raises(ProtocolError):
            read_stream(np.frombuffer(wrong, np.uint8))


@pytest.mark.parametrize(
    "parts", [[], ["Table"], ["Table", 1], ["Scalar", stream_of(TABLE)], ["Array", stream_of(TABLE)], [1, 2],
              ["RecordBatch", stream_of(pa.concat_tables([TABLE, TABLE]))],
              ["Array", stream_of(pa.table({"": pa.chunked_array([[1], [2]])}))]],
)  # fmt: skip
def test_parts_that_do_not_fit(parts: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        read(parts)


def test_received_columns_lie_in_the_memory_that_was_filled() -> None:
    stream = write_stream(pa.table({"a": np.arange(10000.0)})).copy()
    column = read_stream(stream).column(0).chunk(0).to_numpy()
    assert np.shares_memory(column, stream)
