"""The engine: Ray Tune trains the trials that the ledger asks for."""
