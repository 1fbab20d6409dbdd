"""The process of a `prun` call: it sends its arguments, folder and descriptors to the agent, and waits for the end.

One ``make`` starts it hundreds of times, so it imports only modules that are built into Python: ``socket``, ``os`` and
``signal`` would double its start-up time. The agent, which the first call starts, does everything else. If Perl is
installed, the script ``scripts/prun`` handles most calls even faster. It must print the same messages.

A request is one message, ``REQUEST`` below, with four descriptors: our standard streams, and a pipe. Python itself
writes the number of each signal that we receive into the pipe, so that no signal is delayed. The messages of the agent
consist of one letter, four bytes of length, and contents.
"""

import _signal
import _socket
import posix
import sys
from errno import EAGAIN, ECONNREFUSED, ENOENT, EPIPE

#: The start of a request, with the version of the format.
REQUEST = b"prun 1 "
#: Messages of the agent: the program has begun; it has begun, but may run again until data has passed; run this command
#: here (words separated by NUL); set the terminal to raw mode; stop, because the program has stopped; text for standard
#: output; text for standard error; the end (exit status and error message).
BEGUN, REPEATABLE, HERE, RAW, STOP, SHOWN, NOTE, END = b"B", b"R", b"H", b"T", b"Z", b"O", b"N", b"X"
#: Environment variables that select the network. Each agent has one network, and its name depends on them.
VARIABLES = (b"PCONNECT_HOSTS", b"PCONNECT_PROFILE", b"PCONNECT_USER", b"XDG_CONFIG_HOME")
OUR_FAILURE = 125
#: The same for `prun-ssh`: programs know it as the status of ssh.
SSH_FAILURE = 255
#: Arguments that `prun.cli` handles, without the agent or about it.
_OTHERS = {b"--help", b"-h", b"--version", b"--agent"}
_PASSED_ON = (
    _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2,
    _signal.SIGWINCH, _signal.SIGTSTP,
)  # fmt: skip
_TRIES = 10  # attempts, because an agent may stop just when we call it
_IMPATIENT = 3  # this many SIGINT or SIGTERM end us even if the program continues
_INTERRUPTED = 128 + _signal.SIGINT
_LOOK_SECONDS = 0.2  # the interval at which a background process checks whether it is still in the background
_PIECE = 65536
_PYTHON = sys.executable.encode(errors="surrogateescape")


class PrunError(Exception):
    """The call failed. The text gives the reason."""


def agent_name(environment: "dict[bytes, bytes]") -> str:
    """Return the name of the agent for an environment: a 64-bit FNV-1a hash, which Perl can compute, too."""
    given = [name + b"=" + environment[name] for name in VARIABLES if environment.get(name)]
    if not given:
        return "default"
    number = 0xCBF29CE484222325
    for byte in b"\0".join(given):
        number = (number ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{number:016x}"


def agent_folder(environment: "dict[bytes, bytes]") -> bytes:
    """Return the folder of the agents' sockets."""
    base = environment.get(b"XDG_RUNTIME_DIR")
    return base + b"/prun" if base and base[:1] == b"/" else b"/tmp/prun-%d" % posix.geteuid()


def main(argv: "list[str] | None" = None) -> int:
    """Run the command and return its exit status. `argv`: the arguments; for `prun-ssh`, the first one is ``--ssh``."""
    words = [word.encode(errors="surrogateescape") for word in (sys.argv[1:] if argv is None else argv)]
    if not words or words[0] in _OTHERS:
        _become_cli(words or [b"--help"])
    client = _Client(words, _environment())
    try:
        return client.run()
    except PrunError as error:
        is_ssh = words[0] == b"--ssh"
        _say(f"prun{'-ssh' if is_ssh else ''}: {error}\n")
        return SSH_FAILURE if is_ssh else OUR_FAILURE
    finally:
        client.leave()


def _environment() -> "dict[bytes, bytes]":
    """Return the original environment: in the locale C, Python itself changes LC_CTYPE (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib is not built in
        found = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    return {name: value for name, separator, value in reversed(found) if separator}


def _become_cli(arguments: "list[bytes]") -> None:
    posix.execv(_PYTHON, [_PYTHON, b"-P", b"-m", b"pconnect.prun.cli", *arguments])


def _die_by(number: int) -> None:
    """End by a signal. After a SIGINT, our caller stops its loop, as for any program."""
    _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)


def _is_in_front() -> bool:
    """Return whether we are in the foreground of our terminal; also true for a terminal of another session."""
    try:
        return posix.tcgetpgrp(0) == posix.getpgrp()
    except OSError:
        return True


def _say(text: str, stream: int = 2) -> None:
    data = text.encode(errors="surrogateescape")
    try:
        while data:
            data = data[posix.write(stream, data) :]
    except OSError:  # the reader is gone
        pass


class _Client:
    """One call."""

    def __init__(self, words: "list[bytes]", environment: "dict[bytes, bytes]") -> None:
        self._words = words
        self._environment = environment
        self._closed = self._plug()
        self._is_terminal = [posix.isatty(number) for number in range(3)]
        self._sock: _socket.socket | None = None
        self._pump = -1  # the pipe through which we pass terminal input to the agent
        self._has_begun = False  # whether a program that may read input is running
        self._typed = b""
        self._last_typed = b""
        self._mode: object = None  # the mode of the terminal before we changed it
        self._interrupts = 0
        self._may_repeat = True
        self._signals, self._wakeup = posix.pipe()
        posix.set_blocking(self._wakeup, False)

    def run(self) -> int:
        """Run the program through the agent; return its exit status."""
        _signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in _PASSED_ON:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, self._notice)
        for _ in range(_TRIES):
            self._sock = self._connect()
            self._send_request(self._sock)
            status = self._follow()
            if status is not None:
                return status
            if not self._may_repeat:
                raise PrunError("the agent ended while the program was running; its output may be incomplete")
            self._sock.close()
        raise PrunError("the agent keeps stopping; prun --agent status shows the path of its log")

    def leave(self) -> None:
        """Restore the mode of the terminal."""
        if self._mode is not None:
            import termios  # noqa: PLC0415 - only at terminals

            termios.tcsetattr(0, termios.TCSADRAIN, self._mode)  # type: ignore[arg-type]
            self._mode = None

    @staticmethod
    def _plug() -> "list[bool]":
        """Replace closed standard streams by the null device; return for each stream whether it was closed."""
        closed = []
        for number in range(3):
            try:
                posix.fstat(number)
                closed.append(False)
            except OSError:
                closed.append(True)
                posix.open("/dev/null", posix.O_RDWR)  # gets the lowest free number, which is this one
        return closed

    # --- messages to the agent ---

    def _connect(self) -> "_socket.socket":
        folder = agent_folder(self._environment)
        name = agent_name(self._environment)
        for start in (True, False):
            try:
                return dial(folder, name)
            except OSError as error:
                if error.errno not in {ENOENT, ECONNREFUSED} or not start:
                    raise PrunError(f"cannot reach the agent: {error.strerror}") from None
            self._start_agent()
        raise AssertionError

    def _start_agent(self) -> None:
        """Start the agent and wait until it accepts calls; raise `PrunError` with its message if it fails."""
        read, write = posix.pipe()
        null = posix.open("/dev/null", posix.O_RDWR)
        actions = [(posix.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate((null, write, write))]
        # Close inherited descriptors: a parent may wait until all processes that hold them have ended.
        more = [int(name) for name in posix.listdir("/proc/self/fd")]
        actions += [(posix.POSIX_SPAWN_CLOSE, number) for number in more if number > 2]  # type: ignore[misc]
        words = [_PYTHON, b"-P", b"-m", b"pconnect.agent"]
        pid = posix.posix_spawn(_PYTHON, words, self._environment, file_actions=actions, setsid=True)
        posix.close(write)
        posix.close(null)
        said = b"".join(iter(lambda: posix.read(read, _PIECE), b""))
        posix.close(read)
        try:  # noqa: SIM105 - contextlib takes long to import
            posix.waitpid(pid, 0)  # it has forked the agent and ended
        except ChildProcessError:
            pass  # SIGCHLD is ignored, so the system has reaped it
        if said != b"ready\n":
            why = said.decode(errors="replace").strip() or "it gave no reason"
            raise PrunError(f"the agent did not start: {why}")

    def _send_request(self, sock: "_socket.socket") -> None:
        try:
            folder = posix.getcwdb()
        except OSError:
            folder = b""
        # In the background, request no terminal: using it would stop us.
        is_terminal = [self._is_terminal[0] and _is_in_front(), *self._is_terminal[1:]]
        facts = b"".join(b"01"[flag : flag + 1] for flag in (*self._closed, *is_terminal))
        environment = [name + b"=" + value for name, value in self._environment.items()]
        posix.umask(umask := posix.umask(0))
        parts = [folder, facts, b"%o" % umask, b"%d" % len(self._words), *self._words, *environment]
        contents = b"\0".join(parts)
        ends = [self._input(), 1, 2, self._signals]
        rights = b"".join(end.to_bytes(4, sys.byteorder) for end in ends)
        head = REQUEST + b"%d\n" % len(contents)
        try:
            sock.sendmsg([head], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            sock.sendall(contents)
        except OSError as error:
            if error.errno != EPIPE:
                raise PrunError(f"cannot reach the agent: {error.strerror}") from None
        if ends[0] > 2:
            posix.close(ends[0])

    def _input(self) -> int:
        """Return the descriptor that the agent reads.

        We read a terminal ourselves: the system stops background readers only if it is their controlling terminal.
        """
        if not self._is_terminal[0]:
            return 0
        if self._pump >= 0:
            posix.close(self._pump)
        read, self._pump = posix.pipe()
        posix.set_blocking(self._pump, False)
        return read

    # --- messages from the agent ---

    def _follow(self) -> "int | None":
        """Process the agent's messages until the end; return the exit status, ``None`` if the agent is gone."""
        data = b""
        while True:
            piece = self._receive()
            if not piece:
                return None
            data += piece
            while len(data) >= 5 and len(data) >= (end := 5 + int.from_bytes(data[1:5], "big")):
                kind, contents, data = data[:1], data[5:end], data[end:]
                status = self._take(kind, contents)
                if status is not None:
                    return status

    def _receive(self) -> bytes:
        assert self._sock is not None  # noqa: S101 - `run` has connected
        if self._pump >= 0 and self._has_begun:
            self._pump_until(self._sock.fileno())
        try:
            return self._sock.recv(_PIECE)
        except OSError:
            return b""

    def _pump_until(self, sock: int) -> None:
        """Pass on typed input until the agent sends a message.

        In the background, the input belongs to the shell: reading would stop us, even if the program reads nothing.
        """
        from select import select  # noqa: PLC0415 - only at terminals

        while self._pump >= 0:
            if self._typed:
                readable, _, _ = select([sock], [self._pump], [])
            elif _is_in_front():
                readable, _, _ = select([sock, 0], [], [])
            else:
                readable, _, _ = select([sock], [], [], _LOOK_SECONDS)
            if sock in readable:
                return
            if 0 in readable and _is_in_front() and not self._read_terminal():
                self._end_pump()
            elif self._typed:
                try:
                    self._typed = self._typed[posix.write(self._pump, self._typed) :]
                except OSError as error:
                    if error.errno != EAGAIN:
                        self._end_pump()

    def _read_terminal(self) -> bytes:
        """Read and return typed input; empty at its end."""
        try:
            self._typed = posix.read(0, _PIECE)
        except OSError:  # the terminal is gone
            self._typed = b""
        if self._mode is not None:
            self._last_typed = self._typed
        return self._typed

    def _end_pump(self) -> None:
        posix.close(self._pump)
        self._pump, self._typed = -1, b""

    def _take(self, kind: bytes, contents: bytes) -> "int | None":
        if kind == END:
            status, _, text = contents.partition(b" ")
            self.leave()
            if text:
                _say(text.decode(errors="surrogateescape"))
            if int(status) == _INTERRUPTED and (self._interrupts or self._last_typed[-1:] == b"\x03"):
                _die_by(_signal.SIGINT)
            return int(status)
        if kind == HERE:
            self._run_here(contents.split(b"\0"))
        elif kind == RAW:
            self._make_raw()
        elif kind == STOP:
            self._stop()
        elif kind in {SHOWN, NOTE}:
            _say(contents.decode(errors="surrogateescape"), 1 if kind == SHOWN else 2)
        elif kind in {BEGUN, REPEATABLE}:
            self._has_begun, self._may_repeat = True, kind == REPEATABLE
        return None

    def _run_here(self, words: "list[bytes]") -> None:
        """Replace this process by the program. The words before the first empty one are variables."""
        end = words.index(b"")
        _signal.set_wakeup_fd(-1)
        environment = self._environment | dict(word.split(b"=", 1) for word in words[:end])
        command = words[end + 1 :]
        for number in _PASSED_ON:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, _signal.SIG_DFL)
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        for number, is_closed in enumerate(self._closed):
            if is_closed:
                posix.close(number)
        places = [b""] if b"/" in command[0] else environment.get(b"PATH", b"/usr/bin:/bin").split(b":")
        number = ENOENT
        for place in places:
            path = (place or b".") + b"/" + command[0] if place or b"/" not in command[0] else command[0]
            try:
                posix.execve(path, command, environment)
            except OSError as error:
                if error.errno != ENOENT:
                    number = error.errno or ENOENT
        _say(f"prun: {command[0].decode(errors='replace')} cannot be run here: {posix.strerror(number)}\n")
        posix._exit(127 if number == ENOENT else 126)

    def _make_raw(self) -> None:
        import termios  # noqa: PLC0415 - only at terminals
        import tty  # noqa: PLC0415

        if self._mode is None and self._is_terminal[0]:
            self._mode = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSADRAIN)  # TCSADRAIN keeps pending input

    def _notice(self, number: int, _frame: object) -> None:
        """Let the agent handle the signal; after several interrupts, end without waiting."""
        if number in {_signal.SIGINT, _signal.SIGTERM}:
            self._interrupts += 1
            if self._interrupts >= _IMPATIENT:
                self.leave()
                _die_by(number)

    def _stop(self) -> None:
        """Stop this process; when it continues, continue the program."""
        mode = self._mode
        self.leave()
        posix.kill(posix.getpid(), _signal.SIGSTOP)
        posix.write(self._wakeup, bytes([_signal.SIGCONT]))
        if mode is not None:
            self._make_raw()


def dial(folder: bytes, name: str) -> "_socket.socket":
    """Connect to our agent; raise `PrunError` if it may belong to another account."""
    number = posix.open(folder, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    try:
        facts = posix.fstat(number)
        if facts.st_uid != posix.geteuid() or facts.st_mode & 0o077:
            shown = folder.decode(errors="replace")
            raise PrunError(f"other users can access the folder {shown}; remove it, or set XDG_RUNTIME_DIR")
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(f"/proc/self/fd/{number}/{name}.sock")  # addresses of Unix sockets must be short
        except BaseException:
            sock.close()
            raise
        return sock
    finally:
        posix.close(number)


if __name__ == "__main__":
    sys.exit(main())
