"""The command line `dynamos-sweep`."""
