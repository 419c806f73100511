"""Machines: clusters and their nodes, where trials run and what they need."""
