"""The HTTP service's bodies and answers."""
