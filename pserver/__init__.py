"""The server: a daemon that lets those who know a password compute on this machine."""

from pserver.admin.control import pserver

__all__ = ["pserver"]
