"""The limits and the cgroup that the daemon sets for each new session."""

import logging

from pserver.config.limit_options import SessionLimits
from pserver.config.server_config import ServerConfig
from pserver.limits.cgroup import Cgroups

log = logging.getLogger("pserver")


class LimitsOfSessions:
    """The limits of the sessions of one server. It looks for cgroups when the first session needs one."""

    def __init__(self) -> None:
        self._cgroups = Cgroups()
        self._told = ""  # the fact that was logged last

    def of_session(self, config: ServerConfig) -> SessionLimits:
        """Return the limits of a session that starts now."""
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
        log.info("sessions have no cgroups, so limits apply to each process: %s", self._cgroups.why_not)
        if limits.processors:
            log.warning("--session-processors has no effect without cgroups")
