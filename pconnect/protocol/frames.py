"""The fixed parts of what crosses the wire: the preamble of a connection and the header of a message.

Layouts are normative in ``doc/protocol.md``. Integers are big-endian. No I/O here.
"""

import enum
import struct
from typing import NamedTuple

from pconnect.errors import ProtocolError

VERSION = 2
NETWORK_ID_BYTES = 16


class Limits(NamedTuple):
    """What a node takes in from each other node of its network.

    Attributes
    ----------
    max_message_bytes
        Limit of one message: it bounds what a peer can make us allocate.
    max_inbox_bytes
        When so much has arrived from a node and waits for `precv`, no more is read from it: it waits in its `psend`.
        Values are not cut, so that one of any size passes.
    """

    max_message_bytes: int = 2**34
    max_inbox_bytes: int = 2**31


DEFAULT_LIMITS = Limits()

_PREAMBLE = struct.Struct("!4sBB16sIII")
_HEADER = struct.Struct("!2sBBIIQ")
PREAMBLE_BYTES = _PREAMBLE.size
HEADER_BYTES = _HEADER.size
#: For what was made here from messages within the limits, or is no message of the network's.
NO_LIMIT = 2**63
#: The endpoint of a supervisor.
JOB_CHANNEL = 1
PREAMBLE_MAGIC = b"PSRV"
_HEADER_MAGIC = b"PM"


def check_version(version: int, peer: str = "the peer") -> None:
    """Check that a peer speaks this version of the protocol.

    Raises
    ------
    ProtocolError
        It does not. The text has both numbers, and says which side is older.
    """
    if version != VERSION:
        older = peer if version < VERSION else "this side"
        raise ProtocolError(
            f"{peer} speaks version {version} of the protocol, this side version {VERSION}: {older} is older; "
            "install the same version of pserver on both"
        )


def check_first_word(word: bytes | bytearray, peer: str) -> None:
    """Check the version in the first bytes of a peer, where they are those of a preamble or a message.

    Raises
    ------
    ProtocolError
        They are of another version.
    """
    for magic in (PREAMBLE_MAGIC, _HEADER_MAGIC):
        if word.startswith(magic) and len(word) > len(magic):
            check_version(word[len(magic)], peer)


class Purpose(enum.IntEnum):
    """What a connection is for; the first words on it, in clear."""

    COMMAND = 1  #: a command channel without encryption
    DATA = 2  #: a data connection, to be handed to a session
    ACCEPTED = 3  #: the answer of a server without encryption
    NEEDS_TLS = 4  #: the answer of a server with encryption to a client without
    OTHER_VERSION = 5  #: the answer of a server to a preamble of another version; it closes the connection


class Preamble(NamedTuple):
    """The first bytes of a data connection, and of a command channel without encryption.

    Attributes
    ----------
    purpose
        What the connection is for.
    network_id
        16 bytes that name the network; zero where there is none yet.
    from_node, to_node
        Numbers of the nodes at both ends.
    endpoint
        0: the engine of that node; `JOB_CHANNEL`: its supervisor, for jobs; beyond: the worker of that number.
    """

    purpose: Purpose
    network_id: bytes = bytes(NETWORK_ID_BYTES)
    from_node: int = 0
    to_node: int = 0
    endpoint: int = 0

    def pack(self) -> bytes:
        """Return the bytes of the preamble."""
        return _PREAMBLE.pack(PREAMBLE_MAGIC, VERSION, *self)

    @classmethod
    def unpack(cls, data: bytes, peer: str = "the peer") -> "Preamble":
        """Return the preamble of a peer; `data` is `PREAMBLE_BYTES` long.

        Raises
        ------
        ProtocolError
            It holds none, or one of another version.
        """
        magic, version, purpose, *rest = _PREAMBLE.unpack(data)
        if magic != PREAMBLE_MAGIC:
            raise ProtocolError("the peer does not speak the pserver protocol")
        check_version(version, peer)
        try:
            return cls(Purpose(purpose), *rest)
        except ValueError as error:
            raise ProtocolError(f"a connection of unknown purpose {purpose}") from error


class Kind(enum.IntEnum):
    """What a message is. The comment says who sends it, and what its tag and value are."""

    HELLO = 1  #: whoever accepted a connection, as its first word; empty
    VALUE = 2  #: any node; tag: the user's; value: the user's
    SETUP = 3  #: client → supervisor → engine; value: the network (`protocol.Setup`)
    MESHED = 4  #: engine → supervisor → client; value: facts of the engine, or why the mesh failed
    COMMAND = 5  #: client → supervisor → engine; tag: number of the command; value: [source, epoch, options]
    DONE = 6  #: engine → supervisor → client; tag: number of the command; value: seconds that it ran, or the failure
    INTERRUPT = 7  #: client → supervisor → engine; tag: commands up to this number
    KILL = 8  #: client → supervisor; empty
    OUTPUT = 9  #: supervisor → client; tag: 1 stdout, 2 stderr; value: [command, bytes, dropped before]
    DIED = 10  #: supervisor → client; value: how the engine ended, and what it printed last
    QUERY = 11  #: client → supervisor; tag: number of the query
    FACTS = 12  #: supervisor → client; tag: number of the query; value: dict
    CLOSE = 13  #: client → supervisor; tag: patience in milliseconds
    CLOSED = 14  #: supervisor → client; value: ``True`` if the engine had to be killed
    STOPPING = 15  #: supervisor → client; value: why the server ends the session
    COLLECTIVE = (
        16  #: any node; tag: number of a collective call; value: see `pconnect.protocol.collective_inbox`
    )
    LEFT = 17  #: any node; value: [epoch, node, text], why it takes part in no more collective calls
    CANCEL = 18  #: client → supervisor; tag: number of the command
    FRONT_END = 19  #: engine → supervisor → client; tag: number of the command, or 0; value: [what, content]
    RESTART = 20  #: client → supervisor → engine; tag: its number; value: [nodes, seconds]; and the answer, see below
    PROBE = (
        21  #: client → supervisor → engine; tag: number of the round; value: ``None``, or how to end a wait
    )
    STATE = 22  #: engine → supervisor → client; tag: that of the PROBE; value: see `pconnect.session.deadlock_detector`
    TAKEN = 23  #: client → supervisor; it has taken output since it said so last; empty
    # On the job channel; the tag is the number of a worker, where nothing else is said.
    POOL = 24  #: supervisor → client; value: {"slots": of the server, "died": how the engine did, if so}
    WANT = 25  #: client → supervisor; tag: how many workers; value: whether alone on the server
    WORKER = 26  #: supervisor → client; value: its pid and the last command before it was forked, or why not
    YIELD = 27  #: supervisor → client; the server wants the slot back
    RUNNING = 28  #: supervisor → client; value: [job, seconds that it runs]
    ENDED = 29  #: supervisor → client; value: see `pserver.session.worker_manager`
    STOP = 30  #: client → supervisor; value: [job, seconds of patience]: interrupt it, kill it if that does not help;
    #: tag: the worker, or 0 for a job that was recovered
    # Between the client and a worker; the tag is the number of a job, or of a function.
    FUNCTION = 31  #: client → worker; value: [pickled function, source texts of it]
    JOB = 32  #: client → worker; value: see `pconnect.jobs.job`
    DROP = 33  #: client → worker; do not begin it; empty
    RETIRE = 34  #: client → worker; begin no more jobs, and end; empty
    RESULT = 35  #: worker → client; value: see `pconnect.jobs.job`
    REPORT = 36  #: worker → client; value: what the job reports of its progress
    SHARED = 37  #: client → worker; tag: its number; value: an array that jobs need, or ``None``: none does any more
    # On the job channel, for jobs that go on without the client; tag: number of a job. See `pserver.jobs.job_store`.
    KEEP = (
        38  #: client → supervisor; value: [facts, parts, JOB] of a job; and the answer, ``None`` or why not
    )
    DETACH = 39  #: client → supervisor; workers send it nothing more; and the answer
    LEAVE = 40  #: client → supervisor; value: the jobs that have ended; the others are the supervisor's; and the answer
    RECOVER = (
        41  #: client → supervisor; value: [network id, node, secret]; and the answer: the jobs, or why not
    )
    TAKE = 42  #: client → supervisor; it has the result; and the answer: whether it is the first to say so
    # So that no job waits behind one that takes long: those that a worker has and has not begun go to others.
    RECALL = 43  #: client → supervisor; value: the job that runs; and the answer: [job, whether it runs still]. And
    #: client → worker, tag: that job; before this come all that the worker is not to begin, if the answer was yes
    CALL = 44  #: client → supervisor → engine; tag: number of the command; value: [service, epoch, options]


class Header(NamedTuple):
    """The fixed head of a message: its kind, its tag, and the lengths of its two parts in bytes."""

    kind: Kind
    tag: int = 0
    head_bytes: int = 0
    payload_bytes: int = 0

    def pack(self) -> bytes:
        """Return the bytes of the header."""
        return _HEADER.pack(_HEADER_MAGIC, VERSION, *self)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, max_message_bytes: int) -> "Header":
        """Return the header that `data` (`HEADER_BYTES` long) holds.

        Raises
        ------
        ProtocolError
            It holds none, one of another version or kind, or announces more than `max_message_bytes`.
        """
        magic, version, kind, tag, head_bytes, payload_bytes = _HEADER.unpack(data)
        if magic != _HEADER_MAGIC:
            raise ProtocolError(f"not a message of this protocol (it begins with {bytes(data[:4])!r})")
        if version != VERSION:
            check_version(version)
        if head_bytes + payload_bytes > max_message_bytes:
            raise ProtocolError(
                f"a message of {head_bytes + payload_bytes} bytes is announced, the limit is {max_message_bytes}"
            )
        try:
            return cls(_KINDS[kind], tag, head_bytes, payload_bytes)
        except KeyError:
            raise ProtocolError(f"a message of unknown kind {kind}") from None


_KINDS = {kind.value: kind for kind in Kind}  # an enumeration's own look-up by value is five times slower
HELLO = Header(Kind.HELLO).pack()
