"""The HTTP service's state: sweeps, and the drivers that run them."""
