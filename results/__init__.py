"""What came out of a sweep. Owns the ledger; needs neither ray nor torch."""
