"""The limits of each session that begins, and their cgroup, as the daemon gives them out."""

import logging

from pserver.config.limit_options import SessionLimits
from pserver.config.server_config import ServerConfig
from pserver.limits.cgroup import Cgroups

log = logging.getLogger("pserver")


class LimitsOfSessions:
    """The limits of the sessions of one server. What cgroups there are is found out when a session first needs one."""

    def __init__(self) -> None:
        self._cgroups = Cgroups()
        self._told = ""  # what the log has last

    def of_session(self, config: ServerConfig) -> SessionLimits:
        """Return the limits of a session that begins now."""
        limits = config.session_limits()
        folder = self._cgroups.folder(limits)
        if (news := folder or self._cgroups.why_not) and news != self._told:
            self._told = news
            self._tell(limits, folder)
        return config.session_limits(folder)

    def _tell(self, limits: SessionLimits, folder: str) -> None:
        if folder:
            log.info("sessions have cgroups in %s: %s", folder, ", ".join(self._cgroups.controllers))
            return
        log.info("sessions have no cgroups, so limits are those of each process: %s", self._cgroups.why_not)
        if limits.processors:
            log.warning("--session-processors has no effect without cgroups")
