"""The analysis of a sweep: what its trials say, as plain values."""
