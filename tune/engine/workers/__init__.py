"""Processes that train trials: what a trial does there, and several trials as one program."""
