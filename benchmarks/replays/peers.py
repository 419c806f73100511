"""Other tools of hyperparameter search, as their documentation recommends.

    python -m benchmarks.replays.peers DIR

makes a virtual environment in DIR with the tools in fixed versions, apart from the packages that
this project needs. `python -m benchmarks.replays --peers DIR` asks them: a process of that
environment runs benchmarks/replays/peer.py and answers requests, a JSON object per line.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace

VERSIONS = ("ax-platform==1.3.1", "optuna==5.0.0", "smac==2.4.1", "torch==2.13.0", "greenlet")
TOOLS = ("optuna-tpe", "optuna-gp", "smac", "ax")


def main() -> None:
    """Make the environment."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", *VERSIONS], check=True)


class Process:
    """A process that answers for the peers."""

    def __init__(self, folder: Path) -> None:
        """Start it in the environment that `main` made in a folder."""
        self._process = subprocess.Popen(
            [folder / "bin" / "python", Path(__file__).with_name("peer.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def request(self, what: str, **more: Any) -> Any:
        """Return the answer to a request."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of the peers ended at the request {what!r}")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Peer:
    """A search by another tool."""

    def __init__(
        self, process: Process, tool: str, space: SearchSpace, seed: int, runs: int
    ) -> None:
        """Begin a search of a tool of TOOLS."""
        self._process, self._space = process, space
        parameters = [
            {"name": p.stored_name, "log": p.log, "choices": p.choices} | _ends(p)
            for p in space.parameters
        ]
        process.request("begin", tool=tool, parameters=parameters, seed=seed, runs=runs)

    def ask(self) -> tuple[dict[str, Any], int | None]:
        """Return the next configuration, and its seed if the tool chooses seeds."""
        answer = self._process.request("ask")
        return self._real(answer["config"]), answer["seed"]

    def tell(self, values: Sequence[float]) -> None:
        """Enter the values of the configuration asked for last."""
        self._process.request("tell", values=list(values))

    def choice(self) -> tuple[dict[str, Any], float]:
        """Return the tool's own choice and the value that it reports."""
        answer = self._process.request("choice")
        return self._real(answer["config"]), answer["value"]

    def close(self) -> None:
        """Do nothing: the next search replaces it."""

    def _real(self, stored: dict[str, Any]) -> dict[str, Any]:
        return {"average_decay": 0.0} | self._space.real(stored)


def _ends(parameter: Parameter) -> dict[str, float]:
    """The ends of a range, as it is stored."""
    if parameter.low is None or parameter.high is None:
        return {}
    low, high = sorted((parameter.stored(parameter.low), parameter.stored(parameter.high)))
    return {"low": low, "high": high}


if __name__ == "__main__":
    main()
