"""Dynamos: a dynamically modular and sparse network that learns a stream of tasks. Knows torch, not sweeps."""
