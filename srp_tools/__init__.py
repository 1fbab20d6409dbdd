"""Login with TLS-SRP, and a safe byte stream."""
