"""The daemon's part of a pool: what it is told of other servers, and announcing this one to them."""
