"""`dynamos-sweep serve`: the service as a process."""

import argparse
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from dynamos.arguments import whole_number
from dynamos.errors import UserError
from dynamos.files import any_path, local_path
from dynamos.user_code import absolute_code, code_of
from results import STORAGE
from results.definition.urls import tracking_uri
from tune.client import TOKEN
from tune.machines.address import is_server
from tune.machines.cluster import cluster_address
from tune.service.api.app import create_app
from tune.service.api.guard import is_local
from tune.service.state.changes import Changes
from tune.service.state.drivers import Drivers
from tune.service.state.sweeps import Sweeps

SWITCH_SECONDS = 0.0005  # longest delay of a request's thread by a thread that reads a ledger
GRACE_SECONDS = 10  # time for requests under way when the service must end
_LEAST_TOKEN = 16  # characters


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `serve`."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="H",
        help="address to listen on; an address that other "
        f"machines can reach needs a token, in --token-file or {TOKEN} (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=whole_number,
        default=8700,
        metavar="P",
        help="port to listen on; 0 for any free port (default: %(default)s)",
    )
    parser.add_argument(
        "--storage",
        metavar="DIR",
        default=STORAGE,
        help="folder that holds the sweeps, or its URL (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        metavar="A",
        help="cluster on which sweeps run: its job server, http://HOST:8265, "
        "or auto or HOST:PORT from one of its machines (default: RAY_ADDRESS, or this machine "
        "only)",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with the token that every request for data must "
        f"send (default: the variable {TOKEN}, or none)",
    )
    parser.add_argument(
        "--data-path",
        metavar="P",
        help="folder of the data sets, for the sweeps started here",
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        default=[],
        metavar="FILE.py:NAME",
        help="methods, streams, networks and trainers of your own that a request may name; no "
        "other file is imported",
    )
    parser.add_argument(
        "--ledger-url",
        metavar="URL",
        help="database for the ledgers of the sweeps started here "
        "(default: a file in each sweep's folder)",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server for the sweeps started here (default: MLFLOW_TRACKING_URI, or a store "
        "in --storage)",
    )


def serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM. Sweeps continue without it."""
    token = _token(arguments.token_file)
    if token is None and not is_local(arguments.host):
        raise UserError(
            f"--host {arguments.host}: other machines can reach it, so it needs a token: "
            f"--token-file FILE, or the variable {TOKEN}."
        )
    storage = any_path(arguments.storage)
    uri = tracking_uri(arguments.tracking_uri)
    address = (
        arguments.address if is_server(arguments.address) else cluster_address(arguments.address)
    )
    if not isinstance(storage, Path) and not (is_server(address) and arguments.ledger_url and uri):
        raise UserError(
            f"--storage {arguments.storage}: an object store needs --address http://..., "
            "--ledger-url and --tracking-uri."
        )
    if isinstance(storage, Path):
        storage.mkdir(parents=True, exist_ok=True)
    drivers = Drivers(storage, address)
    sweeps = Sweeps(storage, drivers)
    data_path = None if arguments.data_path is None else str(local_path(arguments.data_path))
    changes = Changes(
        sweeps,
        drivers,
        {"data_path": data_path, "ledger_url": arguments.ledger_url, "tracking_uri": uri},
        [_allowed(name) for name in arguments.allow],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("tune.service").setLevel(logging.INFO)
    listening = listening_on(arguments.host, arguments.port)
    sys.setswitchinterval(SWITCH_SECONDS)
    # One process: views of ledgers are shared by all requests, and those are short.
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(sweeps, changes, token, lambda: server.should_exit),
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=65_536,
        )
    )
    host, port = listening.getsockname()[:2]
    print(
        f"Dynamos sweeps at http://{f'[{host}]' if ':' in host else host}:{port} ({storage}"
        f"{', with a token' if token else ''}); press Ctrl+C to end it; sweeps continue",
        flush=True,
    )
    # uvicorn raises the signal that ended it once more, which would print a traceback
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: sys.exit(0))
    server.run(sockets=[listening])
    return 0


def _allowed(name: str) -> str:
    """Allowed code with the absolute path of its file; UserError if that is missing."""
    code = code_of(name)
    if code is None:
        raise UserError(f"--allow {name}: give FILE.py:NAME.")
    if not local_path(code[0]).is_file():
        raise UserError(f"--allow {name}: no file {local_path(code[0])}.")
    return absolute_code(name)


def _token(file: str | None) -> str | None:
    if file is None:
        given = os.environ.pop(TOKEN, None)
        where = f"the variable {TOKEN}"
    else:
        where = f"--token-file {file}"
        try:
            given = local_path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where} cannot be read: {error}.") from None
    if given is None:
        return None
    token = given.strip()
    if len(token) < _LEAST_TOKEN or not token.isascii() or any(c.isspace() for c in token):
        raise UserError(
            f"{where} contains no token: a token is one word of {_LEAST_TOKEN} or more ASCII "
            "characters, for instance of `openssl rand -hex 32`."
        )
    return token


def listening_on(host: str, port: int) -> socket.socket:
    """A socket that listens; raises UserError if the port cannot be used."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port} is out of range; it must be from 0 to 65535.")
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(address[:2], family=family, backlog=2048)
        # Connections inherit this option: the second packet of an answer then does not wait until
        # the first one is acknowledged.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another --port."
        ) from None


class JsonLines(logging.Formatter):
    """Formats a log record as a line with one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "audit", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
