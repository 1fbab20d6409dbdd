"""A page in the browser that shows servers while they work, figures for Prometheus, and the same as JSON."""
