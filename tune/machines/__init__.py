"""Machines: clusters, their nodes, and the needs of trials."""
