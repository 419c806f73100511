"""The HTTP service: submit, watch, steer and fetch sweeps. The ledgers are its only memory."""
