"""What a server has done, and how it is: counts, the last hour, and what ran where."""
