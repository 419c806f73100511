"""Sweeps as SLURM job arrays whose tasks come and go."""
