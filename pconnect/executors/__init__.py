"""Interfaces that submit jobs: executor, maps, a pool as in multiprocessing."""
