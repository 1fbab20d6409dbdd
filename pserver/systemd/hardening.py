"""What a unit forbids, in three ways, with the reasons: they stand as comments in the units that we write.

What user code does must work: numpy, compilers, debuggers where accounts are apart, /tmp and /dev/shm, graphics
processors, code that is compiled while it runs. What is left is what no computation needs.
"""

_KERNEL = """\
# Nothing of the kernel's or of the machine's: no modules, no settings, no clock, no host name, no messages.
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
# No schedule that could starve the rest of the machine.
RestrictRealtime=yes
SystemCallArchitectures=native
"""

_PRIVILEGES = """\
# No program gains rights: no sudo and no ping with a set-user-ID bit in sessions.
NoNewPrivileges=yes
"""

_JIT = """\
# Not MemoryDenyWriteExecute: numba, JAX, PyTorch and callbacks of ctypes write code into memory and run it.
"""

#: One account for all users. `{capabilities}` are those that it needs for its ports.
ONE_ACCOUNT = f"""\
# --- What it may not do ---
{_PRIVILEGES}CapabilityBoundingSet={{capabilities}}
AmbientCapabilities={{capabilities}}
# It writes to the folder of its account, to folders for temporary files, and nowhere else. Other homes are not there.
ProtectSystem=strict
ProtectHome=tmpfs
# Not PrivateTmp: systemd empties such a folder when the daemon is restarted, and sessions live on, see KillMode.
ReadWritePaths={{writes}}
{{binds}}UMask=0077
# Not PrivateDevices: it would hide graphics processors and fast networks. These are all devices that there are here; a
# line for one that this machine has not does no harm.
DevicePolicy=closed
DeviceAllow=char-pts rw
DeviceAllow=char-drm rw
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
DeviceAllow=char-kfd rw
DeviceAllow=char-infiniband_verbs rw
# Processes of others are not seen. Not ProcSubset=pid: libraries read /proc/cpuinfo and /proc/meminfo.
ProtectProc=invisible
{_KERNEL}LockPersonality=yes
RestrictSUIDSGID=yes
# No containers in sessions: the kernel has had many faults behind this door. Leave it out where users need them.
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
{_JIT}# Not @debug: users share this account, and a debugger shows the memory of others.
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Not PrivateUsers: it would hide the groups of the account, and so the devices and folders that they open. Not
# RemoveIPC: it would take the shared memory of sessions away when the daemon is restarted. Not ProtectControlGroups:
# see Delegate.
"""

#: Root starts it, and sessions run under the accounts of their users: what these may do at their logins, they may here.
ACCOUNTS = f"""\
# --- What it may not do ---
# Wider than for one account: the daemon makes processes of other accounts and ends them, and users come to their homes
# and to what they mount. Their accounts are what keeps them apart.
{_PRIVILEGES}# To become the account of a user (SETUID, SETGID), to end its processes (KILL), and to make it a folder
# (CHOWN, FOWNER, DAC_OVERRIDE).
CapabilityBoundingSet={{capabilities}}
# /usr, /boot and /etc cannot be written, and nothing else is hidden: not ProtectHome, because homes are what users come
# to; not ProtectProc, because the daemon looks after processes of all accounts.
ProtectSystem=full
UMask=0022
{_KERNEL}{_JIT}# Debuggers and containers without root work, as they do at a login: not RestrictNamespaces, not
# @system-service.
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
# Not RestrictSUIDSGID: groups have common folders, whose files get the group by this bit.
"""

#: A person's own account, whose processes may do no more than this person anyway.
USER = f"""\
# --- What it may not do ---
# Your account is what confines it. A manager without root's rights cannot hide folders or devices; --account makes a
# unit of the system, which does, for a server that others use.
{_PRIVILEGES}RestrictRealtime=yes
SystemCallArchitectures=native
{_JIT}"""
