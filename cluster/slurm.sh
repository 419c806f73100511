#!/usr/bin/env bash
# A sweep over all nodes of a SLURM job: a Ray node on each, the driver beside the first one, the head.
#
#   . .venv/bin/activate      # in a folder that every node sees; sbatch takes the environment along
#   sbatch --nodes=4 --gpus-per-node=2 cluster/slurm.sh --name mnist --storage /shared/runs --dataset seq-mnist \
#     --trials 200 --gpus-per-trial 0.5 --ledger-url postgresql+psycopg://sweeps@db.example.org/sweeps
#
# All flags are those of `dynamos-sweep run`. Requeued, or submitted again with the name of an existing sweep, it
# goes on with that sweep; then only --name and --storage count.
#
# Before its time limit the job puts the sweep back and ends well, with status 0, so that the next one of a chain
# (--dependency=afterok) goes on. Put back because somebody ended it (scancel) it has status 130.
#
#SBATCH --job-name=dynamos
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
# The trials of a node that fails go on elsewhere.
#SBATCH --no-kill
# The end is near: five minutes before the time limit. For this at preemption, too, the cluster needs
# PreemptParameters=send_user_signal; without, `resume` goes on from what the ledger has.
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
# A name that a requeued job has again.
[[ $name ]] || { name=slurm-$SLURM_JOB_ID; flags+=(--name "$name"); }

temporary=/tmp/dynamos-$SLURM_JOB_ID  # of this job: /tmp/ray may belong to somebody else
steps=() driver='' token='' status=1
say() { echo "slurm.sh: $*" >&2; }

# The script ends only its processes: others may run Ray on these nodes, and `ray stop` would end theirs.
finish() {
  trap '' TERM INT USR1
  rm -f -- ${token:+"$token"}
  ((${#steps[@]} == 0)) || kill -USR1 "${steps[@]}" 2> /dev/null || true
  wait
  # Ray's logs are of use only after a failure. In a cancelled job no step begins any more.
  if ((status == 0 || status == 130 || status == 143)); then
    rm -rf "$temporary"
    ((${#steps[@]} < 2)) || srun --ntasks-per-node=1 rm -rf "$temporary" || true
  fi
  exit "$status"
}
trap finish EXIT

# A driver puts its sweep back at SIGTERM; no process that starts from then on needs the token.
interrupt() {
  say "$1"
  rm -f -- ${token:+"$token"}
  if [[ $driver ]]; then kill -TERM "$driver" 2> /dev/null || true; else status=$2; exit; fi
}
trap "interrupt 'told to end' 143" TERM INT

# In a job that is shorter than the signal's lead SLURM sends the signal at once; of such a job the last fifth is
# enough.
due='' over=''  # when the sweep must be put back (seconds since 1970), and whether it was
end_is_near() {
  local start end
  read -r start end < <(SLURM_TIME_FORMAT=%s squeue --noheader --jobs="$SLURM_JOB_ID" --format='%S %e')
  due=$((end - (end - start < 1500 ? (end - start) / 5 : 300)))
}
trap end_is_near USR1

# Waits for a second or a signal, and puts the sweep back when that is due.
tick() {
  sleep 1 &
  wait $! || true
  if [[ $due && ! $over ]] && (($(date +%s) >= due)); then
    over=yes
    interrupt 'the time of the job is nearly over' 1
  fi
}

export RAY_AUTH_MODE=token
unset RAY_AUTH_TOKEN  # it would take precedence, and be in the environment of every process
if [[ ! ${RAY_AUTH_TOKEN_PATH:-} ]]; then
  case $storage in *://*) folder=$HOME ;; *) folder=$storage ;; esac
  mkdir -p "$folder"
  token=$(umask 077; mktemp "$(realpath "$folder")/.ray-token-XXXXXXXX")
  python -c 'import secrets; print(secrets.token_hex(32))' > "$token"
  export RAY_AUTH_TOKEN_PATH=$token
fi

# Free ports, because another job may have a Ray on this node. Ray's core listens on all addresses, behind the token;
# dashboard, metrics and autoscaler are off as far as possible.
read -r port client_port dashboard_port < <(python -c '
import socket
sockets = [socket.create_server(("", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
export RAY_enable_metrics_collection=0 RAY_USAGE_STATS_ENABLED=0
# Since SLURM 22.05 a step does not inherit it.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

address_of() { local address; read -r address _ < <(getent ahostsv4 "$1") && echo "$address"; }
# scancel sends SIGTERM to every process of the job and 30 s later (KillWait) SIGKILL. Ray's processes block the
# former, so that the driver can still put the sweep back.
deaf='
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.execvp(sys.argv[1], sys.argv[1:])'
# start_ray NODE FLAG...: Ray on a node, until the step gets SIGUSR1. Its folder is for this user alone.
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
# Fails once one of the steps has ended: the cluster will then never be complete.
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
until [[ $(nodes_there) -ge ${#nodes[@]} ]]; do all_run; tick; done

if dynamos-sweep show "$name" --storage "$storage" > /dev/null 2>&1; then
  dynamos-sweep resume "$name" --storage "$storage" --address "$address" &
else
  dynamos-sweep run "${flags[@]}" --address "$address" &
fi
driver=$!
while kill -0 "$driver" 2> /dev/null; do tick; done
status=0
wait "$driver" || status=$?
if [[ $over ]] && ((status == 130)); then
  say "the sweep $name was put back in time; submitted again with --name $name, it goes on"
  status=0
fi
