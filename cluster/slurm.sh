#!/usr/bin/env bash
# A sweep over all nodes of a SLURM job: a Ray node on each, the driver beside the first one, the head.
#
#   . .venv/bin/activate      # in a folder that every node sees; sbatch takes the environment along
#   sbatch --nodes=4 --gpus-per-node=2 cluster/slurm.sh --name mnist --storage /shared/runs --dataset seq-mnist \
#     --trials 200 --gpus-per-trial 0.5 --ledger-url postgresql+psycopg://sweeps@db.example.org/sweeps
#
# All flags are those of `dynamos-sweep run`. Requeued, or submitted again with the name of a sweep that is there, it
# goes on with that sweep; then only --name and --storage count.
#
#SBATCH --job-name=dynamos
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
# Of a node that fails the trials go on elsewhere.
#SBATCH --no-kill
# Five minutes before the time limit the sweep is put back, for `resume`. For this at preemption, too, the cluster needs
# PreemptParameters=send_user_signal; without, `resume` goes on from what the ledger has.
#SBATCH --signal=B:TERM@300
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

temporary=/tmp/dynamos-$SLURM_JOB_ID  # of this job, for /tmp/ray may belong to somebody else
steps=() driver='' token='' status=1
# Processes of its own are all that it ends: others may run Ray on these nodes, and `ray stop` would end theirs.
finish() {
  trap '' TERM INT
  ((${#steps[@]} == 0)) || kill -TERM "${steps[@]}" 2> /dev/null || true
  wait
  rm -f -- ${token:+"$token"}
  # Ray's own logs are of use only where something went wrong.
  ((status != 0)) || srun --ntasks-per-node=1 rm -rf "$temporary" || true
  exit "$status"
}
trap finish EXIT
interrupted=''
interrupt() {
  interrupted=yes
  if [[ $driver ]]; then kill -TERM "$driver" 2> /dev/null || true; else status=143; exit; fi
}
trap interrupt TERM INT

export RAY_AUTH_MODE=token
unset RAY_AUTH_TOKEN  # it would come first, and be in the environment of every process
if [[ ! ${RAY_AUTH_TOKEN_PATH:-} ]]; then
  case $storage in *://*) folder=$HOME ;; *) folder=$storage ;; esac
  mkdir -p "$folder"
  token=$(umask 077; mktemp "$(realpath "$folder")/.ray-token-XXXXXXXX")
  python -c 'import secrets; print(secrets.token_hex(32))' > "$token"
  export RAY_AUTH_TOKEN_PATH=$token
fi

# Ports that are free, for another job may have a Ray on this node. Ray's core listens on all addresses, behind the
# token; dashboard, metrics and autoscaler are left out, where there is a way to.
read -r port client_port dashboard_port < <(python -c '
import socket
sockets = [socket.create_server(("", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
export RAY_enable_metrics_collection=0 RAY_USAGE_STATS_ENABLED=0
# Since SLURM 22.05 a step does not inherit it.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

address_of() { local address; read -r address _ < <(getent ahostsv4 "$1") && echo "$address"; }
# start_ray NODE FLAG...: Ray on a node, until the step is told to end. Its folder is for this user alone.
start_ray() {
  local node=$1
  shift
  # shellcheck disable=SC2016  # expanded on the node
  srun --nodes=1 --ntasks=1 --nodelist="$node" bash -c \
    'mkdir -p -m 700 "$0" && [[ -O $0 ]] && exec ray start --block --temp-dir="$0/ray" "$@"' "$temporary" \
    --node-ip-address="$(address_of "$node")" --num-cpus="$SRUN_CPUS_PER_TASK" --min-worker-port=0 \
    --max-worker-port=0 --dashboard-agent-listen-port=0 "$@" &
  steps+=($!)
}
# Fails once one of the steps has ended, for what was to come then never comes.
all_run() {
  for step in "${steps[@]}"; do
    kill -0 "$step" 2> /dev/null || { echo "slurm.sh: Ray did not start on all nodes" >&2; return 1; }
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
until (: < "/dev/tcp/$head/$port") 2> /dev/null; do all_run; sleep 1; done
for node in "${nodes[@]:1}"; do start_ray "$node" --address="$address"; done
until [[ $(nodes_there) -ge ${#nodes[@]} ]]; do all_run; sleep 1; done

if dynamos-sweep show "$name" --storage "$storage" > /dev/null 2>&1; then
  dynamos-sweep resume "$name" --storage "$storage" --address "$address" &
else
  dynamos-sweep run "${flags[@]}" --address "$address" &
fi
driver=$!
# A signal ends `wait` before the driver has ended.
while :; do
  interrupted=''
  status=0
  wait "$driver" || status=$?
  [[ $interrupted ]] || break
done
