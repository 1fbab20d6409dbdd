"""Sending source code to engines; see `pconnect.files.code_sync`."""

from pconnect.files.code_sync import sync_code

__all__ = ["sync_code"]
