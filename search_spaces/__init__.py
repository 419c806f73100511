"""Search spaces as data, checked against TrainConfig."""
