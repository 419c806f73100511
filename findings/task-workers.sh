#!/usr/bin/env bash
# ray 2.60.0. A worker process that has run a task never becomes an actor.
#
# Guess: Ray keeps idle workers in one pool. So a few small tasks that import a heavy package warm the workers, and an
# actor that is created next starts in one of them, with the package imported.
# Seen: later tasks run in the warm processes, but each actor gets a process that has run nothing. So its start takes as
# long as without the tasks, and the warm processes only hold memory. It is the same for an actor that takes the place
# of one that was ended. To import packages before an actor starts, keep an actor and give it further work.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cat > "$folder/seen.py" <<'PY'
import os
import time

import ray

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)


@ray.remote(num_cpus=1)
def task():
    time.sleep(1)  # so that two tasks need two workers
    return os.getpid()


@ray.remote(num_cpus=1)
class Actor:
    def process(self):
        return os.getpid()


warm = set(ray.get([task.remote() for _ in range(2)]))
print(len(warm), "workers have run a task")
for number in (1, 2):
    actor = Actor.remote()
    print(f"actor {number} is in one of them:", ray.get(actor.process.remote()) in warm)
    print("a further task is in one of them:", ray.get(task.remote()) in warm)
    ray.kill(actor)
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null) <<'SEEN'
2 workers have run a task
actor 1 is in one of them: False
a further task is in one of them: True
actor 2 is in one of them: False
a further task is in one of them: True
SEEN
echo "as written"
