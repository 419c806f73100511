#!/usr/bin/env bash
# A chain of three jobs that continue one sweep: bash examples/slurm/chain.sh NAME
# A job ends shortly before its time limit, and the next one goes on.
set -euo pipefail
name=$1
script=$(dirname "$0")/../../cluster/slurm.sh
options=(--nodes=2 --gpus-per-node=1 --time=04:00:00 --parsable)
sweep=(--name "$name" --storage /shared/runs --dataset seq-mnist --data-path /shared/data
  --trials 200 --gpus-per-trial 0.25 --ledger-url "postgresql+psycopg://sweeps@db/sweeps")

job=$(sbatch "${options[@]}" "$script" "${sweep[@]}")
for _ in 1 2; do
  job=$(sbatch "${options[@]}" --dependency="afterok:$job" "$script" "${sweep[@]}")
done
echo "the last job of the chain is $job; dynamos-sweep show $name --storage /shared/runs follows it"
