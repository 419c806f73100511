"""Pages and files about sweeps."""
