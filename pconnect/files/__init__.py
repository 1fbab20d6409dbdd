"""Transfers of files and source trees between the client and servers."""
