"""The operating system: addresses, folders, pid files, process control."""
