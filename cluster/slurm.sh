#!/usr/bin/env bash
# Runs a sweep over all nodes of a SLURM job: a Ray node on each, and the driver on the first one, Ray's head.
#
#   . .venv/bin/activate      # in a folder that every node sees; sbatch passes the environment on
#   sbatch --nodes=4 --gpus-per-node=2 cluster/slurm.sh --name mnist --storage /shared/runs --dataset seq-mnist \
#     --trials 200 --gpus-per-trial 0.5 --ledger-url postgresql+psycopg://sweeps@db.example.org/sweeps
#
# All flags are those of `dynamos-sweep run`. A job that is requeued, or submitted again with the name of an existing
# sweep, continues that sweep; it then uses only --name and --storage.
#
# Before its time limit the job interrupts the sweep, so that it can be resumed, and ends with status 0. The next job
# of a chain (--dependency=afterok) continues the sweep. A cancelled job (scancel) has status 130.
#
#SBATCH --job-name=dynamos
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
# If a node fails, its trials continue elsewhere.
#SBATCH --no-kill
# SLURM sends this signal five minutes before the time limit. To send it at preemption too, the cluster needs
# SlurmctldParameters=preempt_send_user_signal (SLURM 22.05; PreemptParameters=send_user_signal in later manuals);
# otherwise `resume` continues from the ledger.
#SBATCH --signal=B:USR1@300
set -euo pipefail
: "${SLURM_JOB_ID:?this is for sbatch}"

flags=("$@")
name='' storage=runs
while (($#)); do
  case $1 in
    --name | --storage) printf -v "${1#--}" %s "${2:?$1 needs a value}"; shift ;;
    --name=* | --storage=*) value=${1#--}; printf -v "${value%%=*}" %s "${value#*=}" ;;
  esac
  shift
done
# A requeued job gets the same name again.
[[ $name ]] || { name=slurm-$SLURM_JOB_ID; flags+=(--name "$name"); }

temporary=/tmp/dynamos-$SLURM_JOB_ID  # of this job only; /tmp/ray may belong to another user
steps=() driver='' token='' status=1
say() { echo "slurm.sh: $*" >&2; }

# The script ends only its own processes. Other users may run Ray on these nodes, and `ray stop` would end theirs.
finish() {
  trap '' TERM INT USR1
  rm -f -- ${token:+"$token"}
  ((${#steps[@]} == 0)) || kill -USR1 "${steps[@]}" 2> /dev/null || true
  wait
  # Ray's logs are useful only after a failure. In a cancelled job no new step can begin.
  if ((status == 0 || status == 130 || status == 143)); then
    rm -rf "$temporary"
    ((${#steps[@]} < 2)) || srun --ntasks-per-node=1 rm -rf "$temporary" || true
  fi
  exit "$status"
}
trap finish EXIT

# At SIGTERM the driver interrupts its sweep; no process that starts later needs the token.
interrupt() {
  say "$1"
  rm -f -- ${token:+"$token"}
  if [[ $driver ]]; then kill -TERM "$driver" 2> /dev/null || true; else status=$2; exit; fi
}
trap "interrupt 'asked to end' 143" TERM INT

# If a job is shorter than the five minutes, SLURM sends the signal at once. In such a job the sweep is interrupted
# when a fifth of the time is left.
due='' over=''  # time at which to interrupt the sweep (seconds since 1970), and whether that was done
end_is_near() {
  local start end
  read -r start end < <(SLURM_TIME_FORMAT=%s squeue --noheader --jobs="$SLURM_JOB_ID" --format='%S %e')
  due=$((end - (end - start < 1500 ? (end - start) / 5 : 300)))
}
trap end_is_near USR1

# Waits for a second or a signal, and interrupts the sweep when it is due.
tick() {
  sleep 1 &
  wait $! || true
  if [[ $due && ! $over ]] && (($(date +%s) >= due)); then
    over=yes
    interrupt 'the time of the job is nearly over' 1
  fi
}

export RAY_AUTH_MODE=token
unset RAY_AUTH_TOKEN  # it would take precedence and be in the environment of every process
if [[ ! ${RAY_AUTH_TOKEN_PATH:-} ]]; then
  case $storage in *://*) folder=$HOME ;; *) folder=$storage ;; esac
  mkdir -p "$folder"
  token=$(umask 077; mktemp "$(realpath "$folder")/.ray-token-XXXXXXXX")
  python -c 'import secrets; print(secrets.token_hex(32))' > "$token"
  export RAY_AUTH_TOKEN_PATH=$token
fi

# Free ports, because another job may run Ray on this node. Ray's core listens on all addresses and requires the
# token; dashboard, metrics and autoscaler are off as far as possible.
read -r port client_port dashboard_port < <(python -c '
import socket
sockets = [socket.create_server(("", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
export RAY_enable_metrics_collection=0 RAY_USAGE_STATS_ENABLED=0
# Since SLURM 22.05 a step does not inherit this value.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

address_of() { local address; read -r address _ < <(getent ahostsv4 "$1") && echo "$address"; }
# scancel sends SIGTERM to every process of the job, and SIGKILL 30 s later (KillWait). Ray's processes block SIGTERM,
# so that the driver can still interrupt the sweep in order.
deaf='
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.execvp(sys.argv[1], sys.argv[1:])'
# start_ray NODE FLAG...: runs Ray on a node until the step gets SIGUSR1. Only this user may read its folder.
start_ray() {
  local node=$1
  shift
  # shellcheck disable=SC2016  # expanded on the node
  srun --nodes=1 --ntasks=1 --nodelist="$node" bash -c \
    'mkdir -p -m 700 "$0" && [[ -O $0 ]] && exec python -c "$1" ray start --block --temp-dir="$0/ray" "${@:2}"' \
    "$temporary" "$deaf" \
    --node-ip-address="$(address_of "$node")" --num-cpus="$SRUN_CPUS_PER_TASK" --min-worker-port=0 \
    --max-worker-port=0 --dashboard-agent-listen-port=0 "$@" &
  steps+=($!)
}
# Fails if a step has ended, because the cluster can then never be complete.
all_run() {
  for step in "${steps[@]}"; do
    kill -0 "$step" 2> /dev/null || { say 'Ray did not start on all nodes'; return 1; }
  done
}
nodes_there() {
  timeout 60 python -c '
import sys, ray
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))' "$address"
}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(address_of "${nodes[0]}")
address=$head:$port
start_ray "${nodes[0]}" --head --port="$port" --ray-client-server-port="$client_port" --include-dashboard=false \
  --dashboard-port="$dashboard_port" --no-monitor
until (: < "/dev/tcp/$head/$port") 2> /dev/null; do all_run; tick; done
for node in "${nodes[@]:1}"; do start_ray "$node" --address="$address"; done
if ((${#nodes[@]} > 1)); then
  until [[ $(nodes_there) -ge ${#nodes[@]} ]]; do all_run; tick; done
fi

if python -c '
import sys
from dynamos.files import any_path
from results import sweep_names
sys.exit(sys.argv[1] not in sweep_names(any_path(sys.argv[2])))' "$name" "$storage"; then
  dynamos-sweep resume "$name" --storage "$storage" --address "$address" &
else
  dynamos-sweep run "${flags[@]}" --address "$address" &
fi
driver=$!
while kill -0 "$driver" 2> /dev/null; do tick; done
status=0
wait "$driver" || status=$?
if [[ $over ]] && ((status == 130)); then
  say "the sweep $name was interrupted in time; submit it again with --name $name to continue it"
  status=0
fi
