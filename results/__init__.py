"""What came out of a sweep. Owns the ledger; needs neither ray nor torch."""

STORAGE = "runs"  # the folder that holds the sweeps, unless another is named
