"""Jobs that outlive their client: handing over and getting back."""
