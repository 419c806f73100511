"""Sweeps whose processes are killed at random moments, and what is left of them at the end."""
