"""Networks that change: nodes that are added, removed, or reconnected."""
