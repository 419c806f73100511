"""Analysis of a sweep's trials, as plain values and sentences."""
