"""A Dask cluster on the machines of a network."""
