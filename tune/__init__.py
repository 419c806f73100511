"""The search: Ray drives, Optuna suggests, MLflow mirrors."""
