"""Modules that a worker needs for a trial; it imports them before it gets one."""

import tune.engine.trainable  # noqa: F401
