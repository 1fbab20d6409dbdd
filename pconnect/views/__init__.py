"""The methods of networks and nodes, one module for each subject."""
