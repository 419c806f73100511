"""The ledger: the record of a sweep, its storage and its lease."""
