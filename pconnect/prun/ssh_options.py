"""The options and configuration keys of OpenSSH's ssh, and how `prun-ssh` treats each of them.

These tables are complete: the parser uses nothing else, and a test compares the documentation with them. Letters and
arguments are those of ssh(1), keys those of ssh_config(5), of OpenSSH 9.9. Options that `prun-ssh` cannot fulfil are
refused rather than silently dropped. Options for the connection or the login are ignored, because the network of
`pconnect` has its own.
"""

from enum import Enum
from typing import NamedTuple


class Fate(Enum):
    """The treatment of an option."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    REFUSED = "refused"


class Row(NamedTuple):
    """One option: the name of its argument (empty if it takes none), its treatment, and its meaning or the reason."""

    argument: str
    fate: Fate
    why: str


_HONOURED, _IGNORED, _REFUSED = Fate
_CONNECTED = "the network has its own connections"
_LOGGED_IN = "the network has its own login"
_NO_FORWARDING = "prun-ssh forwards no ports or sockets"
_UNUSED = "the remote program does without it, as with a server that does not permit it"
_NO_FILE = "prun-ssh reads no ssh configuration"
_SHARED = "calls share the connections of the network anyway"
_ERRORS_ONLY = "prun-ssh prints nothing but errors"

OPTIONS = {
    "1": Row("", _REFUSED, "version 1 of the protocol is no longer supported"),
    "2": Row("", _IGNORED, _CONNECTED),
    "4": Row("", _IGNORED, _CONNECTED),
    "6": Row("", _IGNORED, _CONNECTED),
    "A": Row("", _IGNORED, _UNUSED),
    "a": Row("", _IGNORED, "no agent is forwarded"),
    "B": Row("interface", _IGNORED, _CONNECTED),
    "b": Row("address", _IGNORED, _CONNECTED),
    "C": Row("", _IGNORED, _CONNECTED),
    "c": Row("ciphers", _IGNORED, _CONNECTED),
    "D": Row("[address:]port", _REFUSED, _NO_FORWARDING),
    "E": Row("file", _IGNORED, "errors are printed on standard error"),
    "e": Row("character", _IGNORED, "there are no escape characters"),
    "F": Row("file", _IGNORED, _NO_FILE),
    "f": Row("", _REFUSED, "prun-ssh does not go to the background; run it with &"),
    "G": Row("", _HONOURED, "prints host, user and port, and runs nothing"),
    "g": Row("", _IGNORED, _NO_FORWARDING),
    "I": Row("library", _IGNORED, _LOGGED_IN),
    "i": Row("file", _IGNORED, _LOGGED_IN),
    "J": Row("destination", _IGNORED, _CONNECTED),
    "K": Row("", _IGNORED, _LOGGED_IN),
    "k": Row("", _IGNORED, _LOGGED_IN),
    "L": Row("address", _REFUSED, _NO_FORWARDING),
    "l": Row("user", _HONOURED, "the account there, or your user name in the network"),
    "M": Row("", _IGNORED, _SHARED),
    "m": Row("algorithms", _IGNORED, _CONNECTED),
    "N": Row("", _REFUSED, "without a program there is nothing to do"),
    "n": Row("", _HONOURED, "no standard input"),
    "O": Row("command", _REFUSED, "there is no master process; see prun --agent"),
    "o": Row("key=value", _HONOURED, "see the table of keys"),
    "P": Row("tag", _IGNORED, _NO_FILE),
    "p": Row("port", _HONOURED, "chooses among servers of one host; ignored if none of them has it"),
    "Q": Row("query", _REFUSED, "prun-ssh has no algorithms of its own"),
    "q": Row("", _IGNORED, _ERRORS_ONLY),
    "R": Row("address", _REFUSED, _NO_FORWARDING),
    "S": Row("path", _IGNORED, _SHARED),
    "s": Row("", _HONOURED, "the subsystem sftp, if OpenSSH's sftp-server is installed there; no other"),
    "T": Row("", _HONOURED, "no terminal"),
    "t": Row("", _HONOURED, "a terminal if standard input is one; if given twice, always a terminal"),
    "V": Row("", _HONOURED, "prints the version on standard error"),
    "v": Row("", _IGNORED, _ERRORS_ONLY),
    "W": Row("host:port", _REFUSED, _NO_FORWARDING),
    "w": Row("tunnel", _REFUSED, _NO_FORWARDING),
    "X": Row("", _IGNORED, _UNUSED),
    "x": Row("", _IGNORED, "no display is forwarded"),
    "Y": Row("", _IGNORED, _UNUSED),
    "y": Row("", _IGNORED, "errors are printed on standard error"),
}  # fmt: skip


def _ignored(why: str, names: str) -> dict[str, Row]:
    return {name: Row("", _IGNORED, why) for name in names.split()}


def _refused(why: str, names: str) -> dict[str, Row]:
    return {name: Row("", _REFUSED, why) for name in names.split()}


#: Values that are accepted for every key.
HARMLESS = {"no", "false", "none", ""}
_KEYS_BY_NAME = {
    "HostName": Row("", _HONOURED, "the host in the network"),
    "IgnoreUnknown": Row("", _HONOURED, "patterns of unknown keys to ignore"),
    "Port": Row("", _HONOURED, "like -p"),
    "RemoteCommand": Row("", _HONOURED, "the command, if the command line has none"),
    "RequestTTY": Row("", _HONOURED, "yes like -t, force like -tt, no like -T"),
    "SendEnv": Row("", _HONOURED, "names or patterns of variables to send; the server accepts all"),
    "SessionType": Row("", _HONOURED, "none like -N, subsystem like -s"),
    "SetEnv": Row("", _HONOURED, "variables to set there"),
    "StdinNull": Row("", _HONOURED, "yes like -n"),
    "User": Row("", _HONOURED, "like -l"),
    **_ignored("prun-ssh never asks for anything", "BatchMode NumberOfPasswordPrompts"),
    **_ignored(
        _CONNECTED,
        "AddressFamily BindAddress BindInterface CanonicalDomains CanonicalizeFallbackLocal CanonicalizeHostname"
        " CanonicalizeMaxDots CanonicalizePermittedCNAMEs ChannelTimeout Ciphers Compression CompressionLevel"
        " ConnectionAttempts ConnectTimeout IPQoS KexAlgorithms MACs ObscureKeystrokeTiming Protocol ProxyCommand"
        " ProxyJump ProxyUseFdpass RekeyLimit ServerAliveCountMax ServerAliveInterval TCPKeepAlive"
        " VersionAddendum WarnWeakCrypto",
    ),
    **_ignored(
        _LOGGED_IN,
        "AddKeysToAgent CASignatureAlgorithms CertificateFile ChallengeResponseAuthentication CheckHostIP"
        " EnableSSHKeysign FingerprintHash GlobalKnownHostsFile GSSAPIAuthentication GSSAPIClientIdentity"
        " GSSAPIDelegateCredentials GSSAPIKeyExchange GSSAPIKexAlgorithms GSSAPIRenewalForcesRekey"
        " GSSAPIServerIdentity GSSAPITrustDns HashKnownHosts HostbasedAcceptedAlgorithms HostbasedAuthentication"
        " HostKeyAlgorithms HostKeyAlias IdentitiesOnly IdentityAgent IdentityFile KbdInteractiveAuthentication"
        " KbdInteractiveDevices KnownHostsCommand NoHostAuthenticationForLocalhost PasswordAuthentication"
        " PKCS11Provider PreferredAuthentications PubkeyAcceptedAlgorithms PubkeyAcceptedKeyTypes"
        " PubkeyAuthentication RequiredRSASize RevokedHostKeys SecurityKeyProvider StrictHostKeyChecking"
        " UpdateHostKeys UserKnownHostsFile VerifyHostKeyDNS VisualHostKey",
    ),
    **_ignored(_SHARED, "ControlMaster ControlPath ControlPersist"),
    **_ignored(_UNUSED, "ForwardAgent ForwardX11 ForwardX11Timeout ForwardX11Trusted XAuthLocation"),
    **_ignored(
        _NO_FORWARDING,
        "ClearAllForwardings ExitOnForwardFailure GatewayPorts PermitRemoteOpen StreamLocalBindMask"
        " StreamLocalBindUnlink TunnelDevice",
    ),
    **_ignored(_ERRORS_ONLY, "LogLevel LogVerbose SyslogFacility"),
    **_ignored(_NO_FILE, "Include Tag"),
    **_ignored("there are no escape characters", "EnableEscapeCommandline EscapeChar"),
    **_ignored("PermitLocalCommand is refused", "LocalCommand"),
    **_refused(_NO_FORWARDING, "DynamicForward LocalForward RemoteForward Tunnel"),
    **_refused("prun-ssh does not go to the background; run it with &", "ForkAfterAuthentication"),
    **_refused("prun-ssh runs no local command", "PermitLocalCommand"),
    **_refused("it asks to refuse the connection", "RefuseConnection"),
}  # fmt: skip
KEYS = {name.lower(): row for name, row in _KEYS_BY_NAME.items()}
#: The keys as ssh_config(5) writes them, in order.
KEY_NAMES = sorted(_KEYS_BY_NAME, key=str.lower)
