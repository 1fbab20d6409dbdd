"""The collective calls; see `pconnect.messaging.collectives`."""

from pconnect.messaging.collectives import (
    allgather,
    allreduce,
    alltoall,
    barrier,
    bcast,
    gather,
    reduce,
    scatter,
)

__all__ = ["allgather", "allreduce", "alltoall", "barrier", "bcast", "gather", "reduce", "scatter"]
