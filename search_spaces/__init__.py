"""What may vary in a sweep: data, checked against TrainConfig."""
