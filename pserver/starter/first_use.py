"""One-time initialization, done in the starter for all sessions; the starter imports this module last.

A library initializes itself on first use, which would take a sixth of the processor time of a session's login. The
results computed here are discarded, so no two sessions share a secret. OpenSSL and the operating system, which provide
random bytes, give each process different ones.
"""

import gc

from pserver.system.interfaces import own_addresses
from srp_tools.certificates import NetworkAuthority
from srp_tools.tls import tls_context


def use_libraries() -> None:
    """Create keys, certificates and a context, and read the addresses of this machine."""
    own_addresses([])
    tls_context(NetworkAuthority(bytes(16)).own_identity(), server_side=True)


use_libraries()
# A garbage collection writes to every object that it visits, which would copy the pages shared between processes.
gc.collect()
gc.freeze()
