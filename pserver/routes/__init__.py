"""Ways from engine to engine: where the others are, and relays for those that cannot reach each other."""
