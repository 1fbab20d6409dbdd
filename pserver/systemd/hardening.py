"""The restrictions of three kinds of units, with reasons, which appear as comments in the units.

User code must keep working: numpy, compilers, debuggers where accounts are separate, /tmp and /dev/shm, GPUs, and code
compiled at run time. The units forbid only what no computation needs.
"""

_KERNEL = """\
# No access to the kernel or machine-wide state: modules, settings, clock, host name, kernel log.
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
# No scheduling policy that could starve the rest of the machine.
RestrictRealtime=yes
SystemCallArchitectures=native
"""

_PRIVILEGES = """\
# No program gains privileges: set-user-ID programs such as sudo or ping do not work in sessions.
NoNewPrivileges=yes
"""

_JIT = """\
# No MemoryDenyWriteExecute: numba, JAX, PyTorch and ctypes callbacks write code into memory and run it.
"""

#: One account for all users. `{capabilities}`: those that the server needs for its ports.
ONE_ACCOUNT = f"""\
# --- Restrictions ---
{_PRIVILEGES}CapabilityBoundingSet={{capabilities}}
AmbientCapabilities={{capabilities}}
# The server can write to its account's folder and to folders for temporary files only. Other home folders are hidden.
ProtectSystem=strict
ProtectHome=tmpfs
# No PrivateTmp: systemd empties such a folder when the daemon restarts, but sessions keep running; see KillMode.
ReadWritePaths={{writes}}
{{binds}}UMask=0077
# No PrivateDevices: it would hide GPUs and fast networks. Instead, these are all devices that sessions can use; a line
# for a device that this machine does not have does no harm.
DevicePolicy=closed
DeviceAllow=char-pts rw
DeviceAllow=char-drm rw
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
DeviceAllow=char-kfd rw
DeviceAllow=char-infiniband_verbs rw
# Processes of other accounts are hidden. No ProcSubset=pid: libraries read /proc/cpuinfo and /proc/meminfo.
ProtectProc=invisible
{_KERNEL}LockPersonality=yes
RestrictSUIDSGID=yes
# No containers in sessions: user namespaces have exposed many kernel bugs. Remove this line if users need containers.
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
{_JIT}# No @debug: users share this account, and a debugger could read the memory of other users' processes.
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# No PrivateUsers: it would hide the groups of the account, and with them access to devices and folders. No RemoveIPC:
# it would remove the shared memory of sessions when the daemon restarts. No ProtectControlGroups: see Delegate.
"""

#: Root starts the server, and sessions run under the accounts of their users, with the same rights as at a login.
ACCOUNTS = f"""\
# --- Restrictions ---
# Fewer than for one account: the daemon starts and ends processes of other accounts, and users need their home folders
# and mounts. Their accounts separate them from each other.
{_PRIVILEGES}# Capabilities to switch to the account of a user (SETUID, SETGID), to end its processes (KILL), and to
# give it a folder (CHOWN, FOWNER, DAC_OVERRIDE).
CapabilityBoundingSet={{capabilities}}
# /usr, /boot and /etc are read-only; nothing else is hidden. No ProtectHome: users need their home folders. No
# ProtectProc: the daemon manages processes of all accounts.
ProtectSystem=full
UMask=0022
{_KERNEL}{_JIT}# Debuggers and rootless containers work, as they do at a login: no RestrictNamespaces, no
# @system-service.
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
# No RestrictSUIDSGID: groups share folders whose files inherit the group through this bit.
"""

#: A user's own account, whose processes can do no more than the user anyway.
USER = f"""\
# --- Restrictions ---
# The rights of your account are the limit. A systemd manager without root's rights cannot hide folders or devices;
# --account makes a system unit, which can, for a server with other users.
{_PRIVILEGES}RestrictRealtime=yes
SystemCallArchitectures=native
{_JIT}"""
