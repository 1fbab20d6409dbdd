"""The processes that run user code: engine and workers."""
