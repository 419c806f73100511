"""Strategy of a search: samplers and pruners by name."""
