"""Client of the service, for notebooks and for the command line."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import requests

from dynamos.errors import RunError, UserError
from dynamos.fields import plain
from results.definition.sweep_config import SweepConfig

CONNECT_SECONDS, READ_SECONDS = 10.0, 300.0
POLL_SECONDS = 1.0
_OVER = ("finished", "stopped", "killed")
TOKEN = "DYNAMOS_TOKEN"  # environment variable that may hold the service's token
_NOT_SENT = ("confirms", "ledger_url", "tracking_uri")  # fields that the service sets


class Client:
    """A service at a URL.

    Methods raise UserError if the service refuses a request, and RunError if it does not answer.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        """`token` is the service's, by default the value of DYNAMOS_TOKEN."""
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UserError(
                f"{url!r} is not the URL of a service; write for instance http://127.0.0.1:8700."
            )
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, and no .netrc that would replace the token
        token = token or os.environ.get(TOKEN)
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def create(
        self,
        sweep: SweepConfig | Mapping[str, Any],
        dry_run: bool = False,
        tags: Mapping[str, str] | None = None,
        note: str = "",
    ) -> dict[str, Any]:
        """Start a sweep, or return the sweep of that name if it is identical.

        A dry run starts nothing and returns the first suggestions.
        """
        body = dict(sweep) if isinstance(sweep, Mapping) else _body(sweep)
        body |= ({} if tags is None else {"tags": dict(tags)}) | ({"note": note} if note else {})
        return self._post("/sweeps", body, dry_run=str(dry_run).lower())

    def label(
        self, name: str, tags: Mapping[str, str] | None = None, note: str | None = None
    ) -> dict[str, Any]:
        """Set the note and tags of a sweep; the value "" removes a tag."""
        body = {"tags": dict(tags or {})} | ({} if note is None else {"note": note})
        found: dict[str, Any] = self._answer("PATCH", _of(name), json=body).json()
        return found

    def sweeps(self, state: str = "", q: str = "") -> list[dict[str, Any]]:
        """All sweeps, the newest first."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._get("/sweeps", state=state, q=q, limit=1000, offset=len(found))
            found += page["sweeps"]
            if len(found) >= page["total"] or not page["sweeps"]:
                return found

    def sweep(self, name: str) -> dict[str, Any]:
        """A sweep without its trials."""
        return self._get(_of(name))

    def trials(
        self, name: str, state: str = "", q: str = "", sort: str = "number", order: str = "asc"
    ) -> Iterator[dict[str, Any]]:
        """Yield a sweep's trials."""
        offset = 0
        while True:
            page = self._get(
                f"{_of(name)}/trials",
                state=state,
                q=q,
                sort=sort,
                order=order,
                limit=1000,
                offset=offset,
            )
            yield from page["trials"]
            offset += len(page["trials"])
            if offset >= page["total"] or not page["trials"]:
                return

    def trials_csv(self, name: str) -> str:
        """The trials as CSV."""
        return self._answer("GET", f"{_of(name)}/trials", params={"format": "csv"}).text

    def trial(self, name: str, number: int) -> dict[str, Any]:
        """A trial with all its results."""
        return self._get(f"{_of(name)}/trials/{number}")

    def stop(self, name: str) -> dict[str, Any]:
        """Ask a sweep to interrupt its trials and end."""
        return self._post(f"{_of(name)}/stop")

    def stop_trial(self, name: str, number: int) -> dict[str, Any]:
        """Ask a trial to end."""
        return self._post(f"{_of(name)}/trials/{number}/stop")

    def resume(self, name: str, **limits: float) -> dict[str, Any]:
        """Continue a sweep."""
        return self._post(f"{_of(name)}/resume", limits)

    def extend(
        self,
        name: str,
        trials: int,
        space: str | Mapping[str, Any] | None = None,
        **limits: float,
    ) -> dict[str, Any]:
        """Add trials to a sweep and continue it, from then on in another space if one is given."""
        body = {"trials": trials, **limits} | ({} if space is None else {"space": space})
        return self._post(f"{_of(name)}/extend", body)

    def clean(self, name: str, dry_run: bool = False) -> dict[str, Any]:
        """Remove a sweep's checkpoints that nothing needs; return files, bytes and trials."""
        return self._post(f"{_of(name)}/clean", dry_run=dry_run)

    def delete(self, name: str) -> None:
        """Delete a sweep and its MLflow runs permanently."""
        self._answer("DELETE", _of(name))

    def confirm(
        self,
        name: str,
        seeds: int = 5,
        top: int = 3,
        choose: str = "model",
        max_compute: float | None = None,
        baseline: str | None = None,
        final: bool = False,
        extend: int | None = None,
        class_orders: int | None = None,
    ) -> dict[str, Any]:
        """Start the confirmation of a sweep's choice, or extend its latest one.

        `baseline` is "preset", or None for the sweep's trial 0. A `final` confirmation tests with
        the whole error and cannot be extended. `extend` is a number of seeds to add to the latest
        confirmation, `class_orders` a number of class orders; a name may then also be that of a
        confirmation, and the other arguments keep their defaults.
        """
        return self._post(
            f"{_of(name)}/confirm",
            {
                "seeds": seeds,
                "top": top,
                "choose": choose,
                "max_compute": max_compute,
                "baseline": baseline,
                "final": final,
                "extend": extend,
                "class_orders": class_orders,
            },
        )

    def best(
        self, name: str, choose: str = "model", max_compute: float | None = None
    ) -> dict[str, Any]:
        """The chosen configuration: trial, config, commands, provenance."""
        return self._get(f"{_of(name)}/best", choose=choose, max_compute=max_compute)

    def pareto(self, name: str) -> list[dict[str, Any]]:
        """The trials of the Pareto set."""
        found: list[dict[str, Any]] = self._get(f"{_of(name)}/pareto")["trials"]
        return found

    def report(self, name: str) -> str:
        """The report, an HTML page."""
        return self._answer("GET", f"{_of(name)}/report").text

    def compare(self, *names: str) -> dict[str, Any]:
        """Sweeps side by side."""
        return self._get("/compare", sweeps=",".join(names))

    def wait(self, name: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait until a sweep is finished or stopped, and return it.

        Raises RunError if its driver failed or was killed, and after `timeout` seconds.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while (sweep := self.sweep(name))["state"] not in _OVER:
            if time.monotonic() > until:
                raise RunError(f"{name} is {sweep['state']} after {timeout:g} s.")
            time.sleep(POLL_SECONDS)
        if sweep["error"] is not None or sweep["state"] == "killed":
            raise RunError(f"{name} is {sweep['state']}: {sweep['error'] or 'its driver is gone'}")
        return sweep

    def events(self, name: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, content): a snapshot, then changes; raises RunError if the service is lost.

        Events of one sweep end with it, after the event `end`; events of all sweeps end with the
        service.
        """
        with self._answer(
            "GET", "/events", params={"sweep": name} if name else {}, stream=True
        ) as answer:
            event = ""
            try:
                for line in answer.iter_lines(chunk_size=None):
                    field, _, value = line.partition(b": ")
                    if field == b"event":
                        event = value.decode()
                    elif field == b"data":
                        yield event, json.loads(value)
                        if event in ("end", "removed") and name is not None:
                            return
            except requests.RequestException:
                raise RunError(
                    f"the service at {self.url} closed the connection; try again."
                ) from None

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._answer("GET", path, params=query).json()
        return found

    def _post(
        self, path: str, body: Mapping[str, Any] | None = None, **query: Any
    ) -> dict[str, Any]:
        found: dict[str, Any] = self._answer(
            "POST", path, json=plain(body or {}), params=query
        ).json()
        return found

    def _answer(self, method: str, path: str, **more: Any) -> requests.Response:
        try:
            answer = self._session.request(
                method,
                f"{self.url}/api/v1{path}",
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                **more,
            )
        except requests.RequestException as error:
            raise RunError(
                f"no service answers at {self.url}: {error.__class__.__name__}. Start one: "
                "dynamos-sweep serve."
            ) from None
        if answer.ok and not answer.is_redirect:
            return answer
        try:
            detail = answer.json()["detail"]
        except (ValueError, KeyError, TypeError):
            raise RunError(
                f"{self.url} is not a Dynamos service (it answered {answer.status_code})."
            ) from None
        raise (RunError if answer.status_code >= 500 else UserError)(
            f"{detail} ({answer.status_code} at {self.url})"
        )


def _of(name: str) -> str:
    return f"/sweeps/{quote(name, safe='')}"


def _body(config: SweepConfig) -> dict[str, Any]:
    """The fields of a configuration that a service takes: all but those that it sets."""
    values = {name: value for name, value in config.to_dict().items() if name not in _NOT_SENT}
    return values | {
        "base": {name: value for name, value in values["base"].items() if name != "data_path"}
    }
