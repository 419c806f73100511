"""YAML from untrusted senders, as JSON."""

import json
from typing import Any

import yaml

from dynamos.config import UniqueKeys

YAML_KINDS = ("application/yaml", "application/x-yaml", "text/yaml")
_DEEPEST = 50  # levels of a YAML body
_MOST_YAML = 200_000  # bytes of a YAML body, which take a second to read


class _Plain(UniqueKeys, yaml.SafeLoader):
    """Reads YAML without aliases, because a small body with aliases can expand to a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; raise ValueError for an alias or too many levels."""
        if self.check_event(yaml.events.AliasEvent):
            raise ValueError("aliases are not supported")
        self.depth = getattr(self, "depth", 0) + 1
        if self.depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def json_of_yaml(body: bytes | bytearray) -> bytes:
    """A YAML document in JSON; raises ValueError if it cannot be read."""
    if len(body) > _MOST_YAML:
        raise ValueError(
            f"{len(body)} bytes of YAML; at most {_MOST_YAML} are allowed, send more as JSON"
        )
    try:
        return json.dumps(yaml.load(bytes(body), _Plain), default=str).encode()
    # A scalar with a tag that it does not fit makes the reader fail in many ways.
    except (
        yaml.YAMLError,
        RecursionError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
