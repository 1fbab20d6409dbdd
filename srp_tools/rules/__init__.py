"""What names and passwords may be: how they are spelled, and which are too weak."""
