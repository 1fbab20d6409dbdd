"""Jobs that outlive their client: handing them over, and getting them back."""
