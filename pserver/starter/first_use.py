"""What a process does once, done in the starter for all sessions; imported there after everything else.

A library sets itself up when it is first used; that takes a sixth of the processor time of a session's login. What is
computed here is thrown away, so that no session shares a secret with another; both OpenSSL and the system, where random
bytes come from, give each process others.
"""

import gc

from pserver.system.interfaces import own_addresses
from srp_tools.certificates import NetworkAuthority
from srp_tools.tls import tls_context


def use_libraries() -> None:
    """Make keys, certificates and a context, and look at the addresses of this machine."""
    own_addresses([])
    tls_context(NetworkAuthority(bytes(16)).own_identity(), server_side=True)


use_libraries()
# A collection writes into each object that it looks at, and would so copy pages that processes share.
gc.collect()
gc.freeze()
