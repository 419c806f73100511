"""The ledger: the record of a sweep, and what may write to it."""
