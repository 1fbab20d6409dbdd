"""The kinds of messages, and which end of a connection accepts which: one table. No I/O here.

``doc/protocol.md`` is normative.
"""

import enum
from collections.abc import Mapping


class Role(enum.Enum):
    """An end of a connection, by what it may be told."""

    NODE = "a data connection between engines"
    CLIENT_DATA = "the client's end of a data connection"
    ENGINE_DATA = "the engine's end of its data connection to the client"
    CLIENT = "the client's end of a command channel"
    SUPERVISOR = "the server's end of a command channel"
    OVERSEER = "the supervisor's end of the pipe to its engine"
    ENGINE = "the engine's end of that pipe"
    SCHEDULER = "the client's end of a job channel"
    WORKERS = "the server's end of a job channel"
    WORKER = "a worker's end of its data connection"
    EMPLOYER = "the client's end of the data connection to a worker"


class Kind(enum.IntEnum):
    """What a message is: its number on the wire, then the ends that accept it.

    The comment says who sends it, and what its tag and value are.
    """

    _value_: int
    accepted_by: frozenset[Role]  #: the ends at which it is not an error of the peer

    def __new__(cls, number: int, *roles: Role) -> "Kind":  # noqa: D102 - see the class
        kind = int.__new__(cls, number)
        kind._value_ = number
        kind.accepted_by = frozenset(roles)
        return kind

    #: the side that accepted a connection, as its first word, before there is a decoder; empty
    HELLO = 1
    #: any node; tag: the user's; value: the user's
    VALUE = 2, Role.NODE, Role.CLIENT_DATA, Role.ENGINE_DATA
    #: client → supervisor → engine; value: the network (`pconnect.session.mesh_setup.MeshSetup`)
    SETUP = 3, Role.SUPERVISOR, Role.ENGINE
    #: engine → supervisor → client; value: facts of the engine, or why the mesh failed
    MESHED = 4, Role.CLIENT, Role.OVERSEER
    #: client → engine; tag: number of the command; value: [source, epoch, options]
    COMMAND = 5, Role.ENGINE_DATA
    #: engine → client; tag: number of the command; value: [seconds that it ran, or the failure; bytes that stdout and
    #: stderr were given, FRONT_END messages so far]. supervisor → client: a command that was cancelled never begins
    DONE = 6, Role.CLIENT_DATA, Role.CLIENT
    #: client → supervisor; tag: commands up to this number
    INTERRUPT = 7, Role.SUPERVISOR
    #: client → supervisor; empty
    KILL = 8, Role.SUPERVISOR
    #: supervisor → client; tag: 1 stdout, 2 stderr; value: [command, bytes, dropped before]
    OUTPUT = 9, Role.CLIENT
    #: supervisor → client; value: how the engine ended, and what it printed last
    DIED = 10, Role.CLIENT
    #: client → supervisor; tag: number of the query
    QUERY = 11, Role.SUPERVISOR
    #: supervisor → client; tag: number of the query; value: dict
    FACTS = 12, Role.CLIENT
    #: client → supervisor; tag: grace in milliseconds
    CLOSE = 13, Role.SUPERVISOR, Role.ENGINE
    #: supervisor → client; value: ``True`` if the engine had to be killed
    CLOSED = 14, Role.CLIENT
    #: supervisor → client; tag: 1 if it takes no new session; value: why the server ends the session
    STOPPING = 15, Role.CLIENT, Role.SCHEDULER
    #: any node; tag: number of a collective call; value: see `pconnect.protocol.collective_inbox`
    COLLECTIVE = 16, Role.NODE, Role.CLIENT_DATA, Role.ENGINE_DATA
    #: any node; value: [epoch, node, text], why it takes part in no more collective calls
    LEFT = 17, Role.NODE, Role.CLIENT_DATA, Role.ENGINE_DATA
    #: client → supervisor → engine; tag: number of the command
    CANCEL = 18, Role.SUPERVISOR, Role.ENGINE
    #: engine → supervisor → client; tag: number of the command, or 0; value: [what, content]
    FRONT_END = 19, Role.CLIENT, Role.OVERSEER
    #: client → supervisor → engine; tag: its number; value: [nodes, seconds]; and the answer
    RESTART = 20, Role.CLIENT, Role.SUPERVISOR, Role.ENGINE
    #: client → supervisor → engine; tag: number of the round; value: ``None``, or how to end a wait
    PROBE = 21, Role.SUPERVISOR, Role.ENGINE
    #: engine → supervisor → client; tag: that of the PROBE; value: see `pconnect.session.deadlock_detector`
    STATE = 22, Role.CLIENT, Role.OVERSEER
    #: client → supervisor; it has taken output since it said so last; empty
    TAKEN = 23, Role.SUPERVISOR

    # On the job channel; the tag is the number of a worker, where nothing else is said.
    #: supervisor → client; value: {"slots": of the server, "died": how the engine did, if so}
    POOL = 24, Role.SCHEDULER
    #: client → supervisor; tag: how many workers; value: whether alone on the server
    WANT = 25, Role.WORKERS
    #: supervisor → client; value: its pid and the last command before it was forked, or why not
    WORKER = 26, Role.SCHEDULER
    #: supervisor → client; the server wants the slot back
    YIELD = 27, Role.SCHEDULER
    #: supervisor → client; value: [job, seconds that it runs]
    RUNNING = 28, Role.SCHEDULER
    #: supervisor → client; value: see `pserver.session.worker_manager`
    ENDED = 29, Role.SCHEDULER
    #: client → supervisor; value: [job, seconds of grace]: interrupt it, kill it if that does not help; tag: the
    #: worker, or 0 for a job that was recovered
    STOP = 30, Role.WORKERS

    # Between the client and a worker; the tag is the number of a job, or of a function.
    #: client → worker; value: [pickled function, source texts of it]
    FUNCTION = 31, Role.WORKER
    #: client → worker; value: see `pconnect.jobs.job`
    JOB = 32, Role.WORKER
    #: client → worker; do not begin it; empty
    DROP = 33, Role.WORKER
    #: client → worker; begin no more jobs, and end; empty
    RETIRE = 34, Role.WORKER
    #: worker → client; value: see `pconnect.jobs.job`
    RESULT = 35, Role.SCHEDULER, Role.EMPLOYER
    #: worker → client; value: what the job reports of its progress
    REPORT = 36, Role.EMPLOYER
    #: client → worker; tag: its number; value: an array that jobs need, or ``None``: none needs it any more
    SHARED = 37, Role.WORKER

    # On the job channel, for jobs that go on without the client; tag: number of a job. See `pserver.jobs.job_store`.
    #: client → supervisor; value: [facts, parts, JOB] of a job; and the answer, ``None`` or why not
    KEEP = 38, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; workers send it nothing more; and the answer
    DETACH = 39, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; value: the jobs that have ended; the others are the supervisor's; and the answer
    LEAVE = 40, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; value: [network id, node, secret]; and the answer: the jobs, or why not
    RECOVER = 41, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; it has the result; and the answer: whether it is the first to say so
    TAKE = 42, Role.SCHEDULER, Role.WORKERS

    # So that no job waits behind one that takes long: those that a worker has and has not begun go to others.
    #: client → supervisor; value: the job that runs; and the answer: [job, whether it runs still]. And client →
    #: worker, tag: that job; before this come all that the worker is not to begin, if the answer was yes
    RECALL = 43, Role.SCHEDULER, Role.WORKERS, Role.WORKER
    #: client → engine; tag: number of the command; value: [service, epoch, options]
    CALL = 44, Role.ENGINE_DATA
    #: engine → supervisor; a command with a time limit begins; empty
    TIMED = 45, Role.OVERSEER
    #: engine → supervisor; a data connection was refused; tag: the node that it claims to come from; value: why
    REFUSED = 46, Role.OVERSEER
    #: client → supervisor → engine; value: a new certificate for the key of the node; and the answer on the command
    #: channel, when the engine will see it before any new connection
    RENEW = 47, Role.SUPERVISOR, Role.WORKERS, Role.ENGINE, Role.CLIENT
    #: supervisor → client; value: [job, 1 stdout or 2 stderr, position, bytes], of what a running job has printed
    PRINTED = 48, Role.SCHEDULER
    #: both ways between the client and a worker; tag: number of a job that runs a program; value: [0 stdin, 1 stdout or
    #: 2 stderr; bytes], none at the end of the stream
    STREAM = 49, Role.WORKER, Role.EMPLOYER
    #: the same; value: [stream, how many more bytes may be sent]; 0: nobody takes them any more
    CREDIT = 50, Role.WORKER, Role.EMPLOYER
    #: client → worker; tag: the same; value: [number of a signal], of SIGWINCH with rows and columns
    SIGNAL = 51, Role.WORKER

    # For a client that has vanished and comes back as another process, see doc/decisions/0037-resume.md.
    #: supervisor → client: how much of the two output streams, and how many FRONT_END messages, were for the client
    #: before; or a str: why it cannot come back. supervisor → engine: [new certificate, that of the new authority]
    BACK = 52, Role.CLIENT, Role.ENGINE
    #: client → engine; tag: that of a value which the client has taken; empty
    RECEIVED = 53, Role.ENGINE_DATA
    #: engine → client; tag: number of a command of the client before; value: [source, whether a value belongs to it];
    #: tag 0: these were all; value: how many values of the engine are lost
    KNOWN = 54, Role.CLIENT_DATA

    # For pools, see `pconnect.pool`.
    #: client → supervisor; tag: number of the question; and the answer: {"id": of the server, "members": [...]}
    NEIGHBOURS = 60, Role.SUPERVISOR, Role.CLIENT

    # For networks that change, see doc/decisions/0040-growing.md.
    #: client → supervisor → engine; tag: its number; value: the nodes that begin, for the first time or anew, and those
    #: that are removed; and the answer
    MEMBERS = 64, Role.CLIENT, Role.SUPERVISOR, Role.ENGINE

    # For nodes that cannot connect as usual, see doc/protocol.md, "Other ways".
    #: engine → supervisor → client; tag: the node that cannot be reached; value: [why, the relay that was tried or 0]
    UNREACHED = 68, Role.CLIENT, Role.OVERSEER
    #: client → supervisor → engine; tag: that node; value: ``None``: dial it; a number: dial the relay at that node; a
    #: str: why there is no way
    ROUTE = 69, Role.SUPERVISOR, Role.ENGINE
    #: client → supervisor; tag: its number; value: [two nodes to connect, places of those that are dialled, seconds];
    #: and the answer, ``None`` or why not
    RELAY = 70, Role.SUPERVISOR, Role.CLIENT

    #: client → supervisor, also on the job channel; tag: its number; value: what is wanted. And the answer: the
    #: statistics of the server, which its daemon has given, see doc/reference/statistics.md, or {"error": why not}
    STATISTICS = 72, Role.CLIENT, Role.SUPERVISOR, Role.SCHEDULER, Role.WORKERS


ACCEPTS: Mapping[Role, frozenset[Kind]] = {
    role: frozenset(kind for kind in Kind if role in kind.accepted_by) for role in Role
}
