"""A page in the browser that shows servers at work, with the same figures for Prometheus and as JSON."""
