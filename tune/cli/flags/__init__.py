"""Flags of `dynamos-sweep`: of each command, of a sweep, of a session; fields as flags."""
