"""Tracking: MLflow, kept in agreement with the ledger."""
