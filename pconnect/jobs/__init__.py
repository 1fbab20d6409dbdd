"""One job: the future, what travels with it, and what comes back."""
