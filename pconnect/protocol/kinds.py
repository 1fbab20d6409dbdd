"""The kinds of messages, and the ends of connections that accept them. Sans-I/O.

``doc/protocol.md`` is normative.
"""

import enum
from collections.abc import Mapping


class Role(enum.Enum):
    """An end of a connection. It determines the kinds of messages that the end accepts."""

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
    """The kind of a message: its number on the wire, and the ends that accept it.

    Each comment names the sender, and the meaning of tag and value.
    """

    _value_: int
    accepted_by: frozenset[Role]  #: the ends that accept it; for other ends it is a protocol error

    def __new__(cls, number: int, *roles: Role) -> "Kind":  # noqa: D102 - see the class
        kind = int.__new__(cls, number)
        kind._value_ = number
        kind.accepted_by = frozenset(roles)
        return kind

    #: the side that accepted a connection, as its first message, before there is a decoder; empty
    HELLO = 1
    #: any node; tag: the user's; value: the user's
    VALUE = 2, Role.NODE, Role.CLIENT_DATA, Role.ENGINE_DATA
    #: client → supervisor → engine; value: the network (`pconnect.session.mesh_setup.MeshSetup`)
    SETUP = 3, Role.SUPERVISOR, Role.ENGINE
    #: engine → supervisor → client; value: facts about the engine, or why the mesh failed
    MESHED = 4, Role.CLIENT, Role.OVERSEER
    #: client → engine; tag: number of the command; value: [source, epoch, options]
    COMMAND = 5, Role.ENGINE_DATA
    #: engine → client; tag: number of the command; value: [its run time in seconds, or the failure; number of bytes on
    #: stdout and stderr and of FRONT_END messages so far]. supervisor → client: a cancelled command never begins
    DONE = 6, Role.CLIENT_DATA, Role.CLIENT
    #: client → supervisor; tag: commands up to this number
    INTERRUPT = 7, Role.SUPERVISOR
    #: client → supervisor; empty
    KILL = 8, Role.SUPERVISOR
    #: supervisor → client; tag: 1 stdout, 2 stderr; value: [command, bytes, number of bytes dropped before]
    OUTPUT = 9, Role.CLIENT
    #: supervisor → client; value: how the engine ended, and its last output
    DIED = 10, Role.CLIENT
    #: client → supervisor; tag: number of the query
    QUERY = 11, Role.SUPERVISOR
    #: supervisor → client; tag: number of the query; value: dict
    FACTS = 12, Role.CLIENT
    #: client → supervisor; tag: grace in milliseconds
    CLOSE = 13, Role.SUPERVISOR, Role.ENGINE
    #: supervisor → client; value: ``True`` if the engine had to be killed
    CLOSED = 14, Role.CLIENT
    #: supervisor → client; tag: 1 if it accepts no new session; value: why the server ends the session
    STOPPING = 15, Role.CLIENT, Role.SCHEDULER
    #: any node; tag: number of a collective call; value: see `pconnect.protocol.collective_inbox`
    COLLECTIVE = 16, Role.NODE, Role.CLIENT_DATA, Role.ENGINE_DATA
    #: any node; value: [epoch, node, text]: why it has left the collective calls
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
    #: client → supervisor; it has read output since the last TAKEN; empty
    TAKEN = 23, Role.SUPERVISOR

    # On the job channel. Unless stated otherwise, the tag is the number of a worker.
    #: supervisor → client; value: {"slots": slots of the server, "died": how the engine died, if it did}
    POOL = 24, Role.SCHEDULER
    #: client → supervisor; tag: number of workers; value: whether the server runs no other jobs
    WANT = 25, Role.WORKERS
    #: supervisor → client; value: its pid and the last command before it was forked, or why there is none
    WORKER = 26, Role.SCHEDULER
    #: supervisor → client; the server wants the slot back
    YIELD = 27, Role.SCHEDULER
    #: supervisor → client; value: [job, seconds that it has been running]
    RUNNING = 28, Role.SCHEDULER
    #: supervisor → client; value: see `pserver.session.worker_manager`
    ENDED = 29, Role.SCHEDULER
    #: client → supervisor; value: [job, seconds of grace]: interrupt it, and kill it if that does not help; tag: the
    #: worker, or 0 for a recovered job
    STOP = 30, Role.WORKERS

    # Between the client and a worker; the tag is the number of a job, or of a function.
    #: client → worker; value: [pickled function, its source texts]
    FUNCTION = 31, Role.WORKER
    #: client → worker; value: see `pconnect.jobs.job`
    JOB = 32, Role.WORKER
    #: client → worker; do not start the job; empty
    DROP = 33, Role.WORKER
    #: client → worker; start no more jobs, and end; empty
    RETIRE = 34, Role.WORKER
    #: worker → client; value: see `pconnect.jobs.job`
    RESULT = 35, Role.SCHEDULER, Role.EMPLOYER
    #: worker → client; value: the progress that the job reports
    REPORT = 36, Role.EMPLOYER
    #: client → worker; tag: its number; value: an array that jobs need, or ``None`` when none needs it any longer
    SHARED = 37, Role.WORKER

    # On the job channel, for jobs that run on without the client; tag: number of a job. See `pserver.jobs.job_store`.
    #: client → supervisor; value: [facts, parts, JOB] of a job; and the answer, ``None`` or why not
    KEEP = 38, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; workers must send it nothing more; and the answer
    DETACH = 39, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; value: the ended jobs; the others now belong to the supervisor; and the answer
    LEAVE = 40, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; value: [network id, node, secret]; and the answer: the jobs, or why not
    RECOVER = 41, Role.SCHEDULER, Role.WORKERS
    #: client → supervisor; it has the result; and the answer: whether it is the first client to say so
    TAKE = 42, Role.SCHEDULER, Role.WORKERS

    # To avoid jobs waiting behind a long one: jobs that a worker has not started yet go to other workers.
    #: client → supervisor; value: the running job; and the answer: [job, whether it is still running]. And client →
    #: worker, tag: that job; preceded, if the answer was yes, by all jobs that the worker must not start
    RECALL = 43, Role.SCHEDULER, Role.WORKERS, Role.WORKER
    #: client → engine; tag: number of the command; value: [service, epoch, options]
    CALL = 44, Role.ENGINE_DATA
    #: engine → supervisor; a command with a time limit has started; empty
    TIMED = 45, Role.OVERSEER
    #: engine → supervisor; a data connection was refused; tag: the node from which it claims to come; value: why
    REFUSED = 46, Role.OVERSEER
    #: client → supervisor → engine; value: a new certificate for the node's key; and the answer on the command channel,
    #: when the engine is sure to use it for every new connection
    RENEW = 47, Role.SUPERVISOR, Role.WORKERS, Role.ENGINE, Role.CLIENT
    #: supervisor → client; value: [job, 1 stdout or 2 stderr, position, bytes]: output of a running job
    PRINTED = 48, Role.SCHEDULER
    #: both ways between the client and a worker; tag: number of a job that runs a program; value: [0 stdin, 1 stdout or
    #: 2 stderr; bytes], which are empty at the end of the stream
    STREAM = 49, Role.WORKER, Role.EMPLOYER
    #: likewise; value: [stream, number of further bytes that may be sent]; 0: the receiver has closed the stream
    CREDIT = 50, Role.WORKER, Role.EMPLOYER
    #: client → worker; tag: likewise; value: [number of a signal], for SIGWINCH with rows and columns
    SIGNAL = 51, Role.WORKER

    # For a client that vanished and returns as another process, see doc/decisions/0037-resume.md.
    #: supervisor → client: the amounts of output on the two streams and of FRONT_END messages for the previous client;
    #: or a str: why it cannot return. supervisor → engine: [new certificate, certificate of the new authority]
    BACK = 52, Role.CLIENT, Role.ENGINE
    #: client → engine; tag: that of a value that the client has received; empty
    RECEIVED = 53, Role.ENGINE_DATA
    #: engine → client; tag: number of a command of the previous client; value: [source, whether a value belongs to it].
    #: Tag 0 ends the list; value: number of the engine's values that are lost
    KNOWN = 54, Role.CLIENT_DATA

    #: client → supervisor, between its KEEP; tag: number of a limit; value: [most, jobs]: the number of these jobs that
    #: may run at the same time; and the answer, ``None`` or why not
    LIMIT = 55, Role.SCHEDULER, Role.WORKERS

    # For pools, see `pconnect.pool`.
    #: client → supervisor; tag: number of the query; and the answer: {"id": of the server, "members": [...]}
    NEIGHBOURS = 60, Role.SUPERVISOR, Role.CLIENT

    # For networks that change, see doc/decisions/0040-growing.md.
    #: client → supervisor → engine; tag: its number; value: the nodes that start or restart, and the nodes that are
    #: removed; and the answer
    MEMBERS = 64, Role.CLIENT, Role.SUPERVISOR, Role.ENGINE

    # For nodes that cannot connect directly, see doc/protocol.md, "Other ways".
    #: engine → supervisor → client; tag: the unreachable node; value: [why, the relay that was tried or 0]
    UNREACHED = 68, Role.CLIENT, Role.OVERSEER
    #: client → supervisor → engine; tag: that node; value: ``None``: dial it; a number: dial the relay on that node; a
    #: str: why there is no route
    ROUTE = 69, Role.SUPERVISOR, Role.ENGINE
    #: client → supervisor; tag: its number; value: [two nodes to connect, places of the dialled ones, seconds]; and the
    #: answer, ``None`` or why not
    RELAY = 70, Role.SUPERVISOR, Role.CLIENT

    #: client → supervisor, also on the job channel; tag: its number; value: the requested statistics. And the answer:
    #: the statistics from the server's daemon, see doc/reference/statistics.md, or {"error": why not}
    STATISTICS = 72, Role.CLIENT, Role.SUPERVISOR, Role.SCHEDULER, Role.WORKERS


ACCEPTS: Mapping[Role, frozenset[Kind]] = {
    role: frozenset(kind for kind in Kind if role in kind.accepted_by) for role in Role
}
