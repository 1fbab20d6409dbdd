"""Jobs to workers: queue, workers, and the thread that assigns."""
