"""Pages and files that are written of a sweep."""
