"""Interfaces for submitting jobs: an executor, maps, and a pool like the one of multiprocessing."""
