"""Command lines for ssh: from real programs, compared with the real ssh, and invalid ones."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pconnect.errors import ConfigurationError
from pconnect.prun.ssh_request import Shows, SshRequest, Terminal
from pconnect.prun.ssh_words import parse
from tests.support.programs import program

# Calls of the remote shell by rsync 3.5, git 2.39, GNU parallel 2022, Open MPI 4.1, Hydra 4.0 and scp 9.2.
REAL = [
    (
        ["host", "rsync", "--server", "-logDtpre.iLsfxCIvu", ".", "dst/"],
        SshRequest("host", command=b"rsync --server -logDtpre.iLsfxCIvu . dst/"),
    ),
    (
        ["-p", "2222", "-l", "alice", "host", "rsync", "--server", "--sender", ".", "dst/"],
        SshRequest("host", "alice", 2222, command=b"rsync --server --sender . dst/"),
    ),
    (
        ["-o", "SendEnv=GIT_PROTOCOL", "-p", "2222", "alice@host", "git-upload-pack '/a b/repo.git'"],
        SshRequest("host", "alice", 2222, b"git-upload-pack '/a b/repo.git'", sent=("GIT_PROTOCOL",)),
    ),
    (
        ["-G", "-o", "SendEnv=GIT_PROTOCOL", "host"],
        SshRequest("host", sent=("GIT_PROTOCOL",), shows=Shows.CONFIGURATION),
    ),
    (["host1", "--", "exec", "mkdir", "-p", "./."], SshRequest("host1", command=b"exec mkdir -p ./.")),
    (
        ["-l", "al", "host2", "--", "exec", "perl", "-X", "-e", "GNU_Parallel_worker,eval+pack", "2445"],
        SshRequest("host2", "al", command=b"exec perl -X -e GNU_Parallel_worker,eval+pack 2445"),
    ),
    (
        ["127.0.0.3", " orted", "-mca", "ess", '"env"', "-mca", "plm", '"rsh"', "--tree-spawn"],
        SshRequest("127.0.0.3", command=b' orted -mca ess "env" -mca plm "rsh" --tree-spawn'),
    ),
    (
        ["-x", "127.0.0.2", '"/usr/bin/hydra_pmi_proxy"', "--control-port", "vm:44373", "--pgid", "0"],
        SshRequest("127.0.0.2", command=b'"/usr/bin/hydra_pmi_proxy" --control-port vm:44373 --pgid 0'),
    ),
    (
        ["-x", "-oPermitLocalCommand=no", "-oClearAllForwardings=yes", "-oRemoteCommand=none",
         "-oRequestTTY=no", "-oForwardAgent=no", "-l", "bob", "--", "host", "scp -t /tmp"],
        SshRequest("host", "bob", command=b"scp -t /tmp", terminal=Terminal.NO),
    ),
]  # fmt: skip
# Other valid command lines, and the requests that they mean.
FORMS = [
    (["host"], SshRequest("host")),
    (["a@b@host"], SshRequest("host", "a@b")),
    (["[::1]", "ls"], SshRequest("::1", command=b"ls")),
    (["ssh://al%20ice@host:2222/", "ls"], SshRequest("host", "al ice", 2222, b"ls")),
    (["ssh://[::1]:2222"], SshRequest("::1", port=2222)),
    (["-p22", "-lalice", "host"], SshRequest("host", "alice", 22)),
    (["-p", "1", "-p", "2", "-o", "Port=3", "host"], SshRequest("host", port=1)),
    (["-l", "first", "second@host", "-l", "third"], SshRequest("host", "first")),
    (["second@host", "-l", "third"], SshRequest("host", "second")),
    (["-4xCqv", "-i", "key", "host", "ls", "-l"], SshRequest("host", command=b"ls -l")),
    (["-ntt", "host", "ls"], SshRequest("host", command=b"ls", stdin=False, terminal=Terminal.ALWAYS)),
    (["-t", "-T", "host"], SshRequest("host", terminal=Terminal.NO)),
    (["-T", "-t", "host"], SshRequest("host", terminal=Terminal.IF_OURS)),
    (["-T", "-oRequestTTY=force", "host"], SshRequest("host", terminal=Terminal.NO)),
    (["-oRequestTTY=yes", "-t", "host"], SshRequest("host", terminal=Terminal.ALWAYS)),
    (["host", "-n", "-p", "22", "ls", "-n"], SshRequest("host", port=22, command=b"ls -n", stdin=False)),
    (["host", "-n", "--", "-x"], SshRequest("host", command=b"-x", stdin=False)),
    (["--", "host", "-x"], SshRequest("host", command=b"-x")),
    (["host", "a", "", "b  c", "$HOME", "'"], SshRequest("host", command=b"a  b  c $HOME '")),
    (["host", "\udcff"], SshRequest("host", command=b"\xff")),
    (["host", ""], SshRequest("host")),
    (["-oUser=bob", "-o", "stdinnull yes", "-o", ' hostname = "%h.org" ', "h"],
     SshRequest("h.org", "bob", stdin=False)),
    (["-oRemoteCommand=echo %h %r 100%%", "-l", "al", "h"], SshRequest("h", "al", command=b"echo h al 100%")),
    (["-oSetEnv=A=1 'B=2 3' A=4", "-oSetEnv=C=1", "h"], SshRequest("h", variables={b"A": b"1", b"B": b"2 3"})),
    (["-oSendEnv=LC_* LANG", "-oSendEnv=-LC*", "h"], SshRequest("h", sent=("LANG",))),
    (["-oIgnoreUnknown=foo*,bar", "-oFooBar=1", "h"], SshRequest("h")),
    (["-oForwardX11=yes", "-oTunnel=no", "-oLogLevel", "h"], SshRequest("h")),
    (["-V", "host"], SshRequest(shows=Shows.VERSION)),
]  # fmt: skip
WRONG = [
    ([], "name a host; usage: prun-ssh "),
    (["-p", "22"], "name a host"),
    (["-p"], "-p needs an argument: port"),
    (["-z", "host"], "ssh has no option -z; usage"),
    (["--help"], "ssh has no option --; usage"),
    (["@host"], "@host: name a host"),
    (["user@"], "user@: name a host"),
    (["ssh://host/path"], r"ssh://host/path: write ssh://\[user@\]host\[:port\]"),
    (["ssh://host:x"], "ssh://host:x: write "),
    (["-p", "0", "host"], "'0' is not a port"),
    (["-p", "70000", "host"], "'70000' is not a port"),
    (["-L", "1:h:2", "host"], r"-L address: prun-ssh forwards no ports or sockets$"),
    (["host", "-fN", "ls"], "-f: prun-ssh does not go to the background; run it with &"),
    (["-N", "host"], "-N: without a program there is nothing to do"),
    (["-O", "check", "host"], "-O command: there is no master process; see prun --agent"),
    (["-oNoSuchKey=1", "host"], "-o NoSuchKey: ssh has no such key"),
    (["-o", "=", "host"], "-o : ssh has no such key"),
    (["-oLocalForward=1 h:2", "host"], "-o LocalForward: prun-ssh forwards no ports"),
    (["-oSessionType=none", "host"], "-o SessionType=none: without a program"),
    (["-oRequestTTY=perhaps", "host"], "-o requesttty: 'perhaps' is not one of auto, no, yes, force"),
    (["-oUser=", "host"], "-o User: the value is missing"),
    (["-oUser='", "host"], "-o user: a quotation mark is missing in '"),
    (["-oSetEnv=A", "host"], "-o SetEnv: 'A' is not NAME=VALUE"),
    (["-oRemoteCommand=ls", "host", "ls"], "-o RemoteCommand: the command line has a command, too"),
    (["-oRemoteCommand=%C", "host"], "-o RemoteCommand: prun-ssh supports %h, %n, %p, %r and %%, not '%C'"),
    (["-s", "host", "other"], "-s: the subsystem other is unknown; only sftp is supported"),
    (["-s", "host"], r"-s: the subsystem \(none\) is unknown"),
]
# Parts of command lines to compare with the real ssh.
PARTS = st.sampled_from(
    ["-t", "-T", "-n", "-tt", "-4", "-C", "-xa", "-lbob", "-p22", "-oUser=eve", "-oPort=7", "-oRequestTTY=force",
     "-oRequestTTY=no", "-oRequestTTY=yes", "-oStdinNull=yes", "-oStdinNull=no", "-oHostName=%h.org",
     "-ocompression yes", "-i/dev/null", "-vq"]
)  # fmt: skip
DESTINATIONS = st.sampled_from(["host", "al@host", "ssh://al@host:99", "ssh://host", "a@b@host"])


@pytest.mark.parametrize(("words", "request_"), [*REAL, *FORMS])
def test_a_command_line_is_read_as_by_ssh(words: list[str], request_: SshRequest) -> None:
    assert parse(words) == request_


@pytest.mark.parametrize(("words", "text"), WRONG)
def test_what_cannot_be_done_is_refused_in_one_line(words: list[str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{text}") as caught:
        parse(words)
    assert "\n" not in str(caught.value)


def test_the_subsystem_of_files_is_found_there() -> None:
    line = parse(["-s", "--", "host", "sftp"]).command
    assert b"/usr/lib/openssh/sftp-server" in line
    ended = subprocess.run(["sh", "-c", line], input=b"", capture_output=True, check=False, timeout=20)
    missing = b"prun-ssh: the sftp-server of OpenSSH is not installed here\n"
    assert (ended.returncode, ended.stderr) in {(127, missing), (0, b""), (255, b"")}


@settings(max_examples=25)
@given(st.lists(PARTS, max_size=4), DESTINATIONS, st.lists(PARTS, max_size=3))
def test_the_real_ssh_understands_the_same(before: list[str], destination: str, behind: list[str]) -> None:
    words = [*before, destination, *behind]
    shown = subprocess.run(
        [program("ssh", "openssh-client"), "-F", "none", "-G", *words],
        capture_output=True, text=True, check=True, timeout=20,
    ).stdout  # fmt: skip
    facts = dict(line.partition(" ")[::2] for line in shown.splitlines())
    ours = parse(words)
    assert ours.host == facts["hostname"]
    assert ours.user in {None, facts["user"]}
    assert ours.port in ({None, 22} if facts["port"] == "22" else {int(facts["port"])})
    terminal = {"true": "yes", "false": "no"}.get(facts["requesttty"], facts["requesttty"])
    assert (ours.terminal.value, ours.stdin) == (terminal, facts["stdinnull"] == "no")


@given(st.lists(st.text(alphabet="-opltTnVGs@h=: ", max_size=6), max_size=5))
def test_any_command_line_is_read_or_refused(words: list[str]) -> None:
    try:
        parse(words)
    except ConfigurationError as error:
        assert str(error)
