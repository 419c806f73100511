"""Rules of pruning, and the data that they share."""
