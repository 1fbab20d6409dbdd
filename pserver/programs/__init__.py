"""Programs that jobs run: any executable, with its streams, signals and exit status."""
