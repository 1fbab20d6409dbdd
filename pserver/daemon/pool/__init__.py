"""The daemon's part of a pool: announcements from other servers, and announcements to them."""
