"""Health checks of a sweep: what makes its answer weak, and what to do about it."""
