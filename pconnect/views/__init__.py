"""The methods of networks and nodes."""
