"""Sending values between nodes: `psend`, `precv`, and collective calls."""
