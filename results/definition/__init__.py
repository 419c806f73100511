"""Definition of a sweep: its configuration, protocols and defaults."""
