"""The reference pages that are made from the code.

`python -m docs.pages` writes them.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from results.pages.reference import reference
from tune.cli.flags.parser import BY_SERVICE, COMMANDS, parser_of

FOLDER = Path(__file__).parent
MADE = "Generated from the code by `make reference`; do not edit."
# `run` and `submit` have a flag for every field of a sweep, which fields.md describes.
GROUPS = ("positional arguments", "options")


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


def commands() -> str:
    """Return the page of the commands of `dynamos-sweep` with their flags."""
    lines = [
        "# Commands",
        "",
        MADE,
        "",
        "`dynamos` trains one configuration; its flags are the [fields of a "
        "run](fields.md#fields-of-a-run) and those of [training.md](training.md). `dynamos-sweep` "
        "has these commands:",
        "",
        "| command | what it does | with `--server` |",
        "|---|---|---|",
    ]
    lines += [
        f"| [`{name}`](#{name}) | {text} | {'yes' if name in BY_SERVICE else ''} |"
        for name, text in COMMANDS.items()
    ]
    for name in COMMANDS:
        command = _command(name)
        lines += ["", f"## {name}", "", " ".join((command.description or "").split())]
        if name in ("run", "submit"):
            lines += [
                "",
                "Its flags are the [fields of a sweep](fields.md#fields-of-a-sweep) and these:",
            ]
        lines += ["", "| argument | meaning |", "|---|---|"]
        lines += [f"| {_spelt(about)} | {_meaning(command, about)} |" for about in _own(command)]
    return "\n".join([*lines, ""])


def _command(name: str) -> argparse.ArgumentParser:
    [commands] = [
        action
        for action in parser_of(name)._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return commands.choices[name]  # type: ignore[no-any-return]


def _own(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a command that have no field of a sweep behind them."""
    from dynamos.fields import settings
    from results.definition.sweep_config import SweepConfig

    fields = {f"--{about.flag}" for about in settings(SweepConfig).values() if about.flag}
    whole = command.prog.split()[-1] not in ("run", "submit")
    for action in command._actions:
        if action.help is argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        if whole or not fields.intersection(action.option_strings):
            yield action


def _spelt(about: argparse.Action) -> str:
    """Return an argument as one writes it."""
    shown = about.metavar or about.dest.upper()
    value = (shown if isinstance(shown, str) else " ".join(shown)).replace("|", " or ")
    if about.choices is not None and about.metavar is None:
        value = " or ".join(map(str, about.choices))
    words = [", ".join(about.option_strings), "" if about.nargs == 0 else value]
    return f"`{' '.join(word for word in words if word)}`"


def _meaning(command: argparse.ArgumentParser, about: argparse.Action) -> str:
    return _cell((about.help or "") % (vars(about) | {"prog": command.prog}))


def _cell(text: str) -> str:
    """Return a text for a cell of a table in Markdown."""
    return " ".join(text.split()).replace("|", "&#124;")


def http() -> str:
    """Return the page of the HTTP routes, from the service's own description."""
    described = _described()
    lines = [
        "# HTTP",
        "",
        MADE,
        "",
        "`dynamos-sweep serve` offers these routes. `/docs` shows them with their bodies, and "
        "`/openapi.json` describes them for programs. Requests are JSON or YAML, answers JSON. "
        "[errors.md](errors.md) has the form and the statuses of errors.",
        "",
        "| route | what it does | answers |",
        "|---|---|---|",
    ]
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            answers = ", ".join(code for code in sorted(about["responses"]) if code < "300")
            does = _cell(str(about.get("description") or about.get("summary") or ""))
            lines.append(f"| `{method.upper()} {path}` | {does} | {answers} |")
    lines += ["", "## Bodies", ""]
    for name, schema in sorted(described["components"]["schemas"].items()):
        if name == "Base":  # the fields of a run
            continue
        lines += [f"### {name}", "", _cell(str(schema.get("description", ""))), ""]
        lines += _properties(schema)
    return "\n".join(lines)


def _described() -> dict[str, Any]:
    """Return the description that a service gives of itself."""
    from tune.service.api.app import create_app
    from tune.service.state.changes import Changes
    from tune.service.state.drivers import Drivers
    from tune.service.state.sweeps import Sweeps

    nowhere = FOLDER / "no-sweeps"
    drivers = Drivers(nowhere, None)
    sweeps = Sweeps(nowhere, drivers)
    return create_app(sweeps, Changes(sweeps, drivers, {}, []), None, lambda: True).openapi()


def _properties(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the fields of a body or an answer."""
    if not schema.get("properties"):
        return
    yield "| field | kind | meaning |"
    yield "|---|---|---|"
    for name, about in schema["properties"].items():
        needed = " (required)" if name in schema.get("required", ()) else ""
        yield f"| `{name}` | {_kind(about)}{needed} | {_cell(str(about.get('description', '')))} |"
    yield ""


def _kind(about: Mapping[str, Any]) -> str:
    """Return the kind of a value in words; a link for one with a table of its own."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        if name == "Base":
            return "[fields of a run](fields.md#fields-of-a-run)"
        return f"[{name}](#{name.lower()})"
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(_kind(one) for one in about["anyOf"]))
    if "enum" in about or "const" in about:
        return ", ".join(f"`{value}`" for value in about.get("enum", [about.get("const")]))
    if about.get("type") == "array":
        return f"list of {_kind(about.get('items', {}))}"
    return str(about.get("type", "any"))


PAGES: dict[str, Callable[[], str]] = {
    "reference/fields.md": reference,
    "reference/commands.md": commands,
    "reference/http.md": http,
}

if __name__ == "__main__":
    main()
