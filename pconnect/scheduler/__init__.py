"""From jobs to workers: the queue, the workers, and the thread that assigns jobs."""
