"""Rules that forbid combinations of values: `lr > 0.1 and beta > 3`, parsed and never run as code.

    rule       = and-term {"or" and-term}
    and-term   = not-term {"and" not-term}
    not-term   = "not" not-term | "(" rule ")" | comparison | a field that is true or false
    comparison = value operator value {operator value}
    operator   = "<" | "<=" | ">" | ">=" | "==" | "!="
    value      = field | number | "text" | 'text' | true | false | none

A chain such as `0.1 < lr < 0.2` means that both comparisons hold. An order with none or a text is
false.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from dynamos.config import FIELDS, checked, field_type
from dynamos.errors import UserError, nearest
from dynamos.fields import words
from dynamos.methods.hyperparameters import of_method

LONGEST, DEEPEST = 1000, 50  # characters of a rule, and nested parentheses and nots
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<operator><=|>=|==|!=|<|>)
    |(?P<bracket>[()])
    |(?P<name>(?:method\.)?[A-Za-z_]\w*))""",
    re.VERBOSE,
)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ORDERS = ("<", "<=", ">", ">=")
_CONSTANTS = {"true": True, "false": False, "none": None}
_WORDS = ("and", "or", "not")
_MEANT = {"=": "==", "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not", "<>": "!="}

Truth = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a rule: its kind, its text and its position, from 1."""

    kind: str  # number, text, operator, bracket, name, or "end"
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of a comparison: a field, or a constant."""

    token: Token
    field: str | None
    constant: Any

    def value(self, config: Mapping[str, Any]) -> Any:
        """Return its value in a configuration."""
        if self.field is None:
            return self.constant
        # another method may lack the hyperparameter
        return config.get(self.field) if of_method(self.field) else config[self.field]

    @property
    def kind(self) -> type | None:
        """Type of its values, float for every number; None for none and for a method.NAME."""
        if self.field is not None and of_method(self.field):
            return None
        kind = (
            field_type(self.field)[0]
            if self.field is not None
            else None
            if self.constant is None
            else type(self.constant)
        )
        return float if kind is int else kind


@dataclass(frozen=True, slots=True)
class Rule:
    """A combination of values that a space forbids."""

    text: str
    holds: Truth
    fields: tuple[str, ...]  # that it names

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Return the rule of a text; raise UserError, with the position of a fault."""
        if not isinstance(text, str):
            raise UserError(f"forbid {text!r} is not a text, such as 'lr > 0.1 and beta > 3'.")
        if len(text) > LONGEST:
            raise UserError(f"forbid: a rule has {len(text)} characters; at most {LONGEST}.")
        parser = _Parser(text)
        return cls(text, parser.whole(), tuple(dict.fromkeys(parser.fields)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> Any:  # its function cannot be pickled
        return Rule.parse, (self.text,)


class _Parser:
    """A recursive-descent parser of one rule."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = self._depth = 0
        self.fields: list[str] = []

    def whole(self) -> Truth:
        """Return the truth of the whole text."""
        found = self._or()
        if self._token.kind != "end":
            self._expected("'and' or 'or'")
        return found

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> Token | None:
        """Return the next token, and go on, if it is one of these words or signs; else None."""
        token = self._token
        if token.kind in ("text", "number", "end") or token.text not in texts:
            return None
        self._next += 1
        return token

    def _or(self) -> Truth:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else lambda config: any(part(config) for part in parts)

    def _and(self) -> Truth:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else lambda config: all(part(config) for part in parts)

    def _not(self) -> Truth:
        opened = self._take("not", "(")
        if opened is None:
            return self._comparison()
        self._depth += 1
        if self._depth > DEEPEST:
            self._fault(opened, f"more than {DEEPEST} nested parentheses and nots")
        if opened.text == "not":
            inner = self._not()
            found: Truth = lambda config: not inner(config)  # noqa: E731
        else:
            found = self._or()
            if not self._take(")"):
                self._expected("')'")
        self._depth -= 1
        return found

    def _comparison(self) -> Truth:
        sides, signs = [self._operand()], list[Token]()
        while sign := self._take(*_OPERATORS):
            signs.append(sign)
            sides.append(self._operand())
        if not signs:
            if sides[0].kind is not bool:
                self._expected("a comparison, such as < or ==")
            return lambda config: bool(sides[0].value(config))
        for sign, pair in zip(signs, pairwise(sides), strict=True):
            self._check(sign, *pair)
        steps = list(zip((_OPERATORS[s.text] for s in signs), pairwise(sides), strict=True))

        def holds(config: Mapping[str, Any]) -> bool:
            for compare, (left, right) in steps:
                values = left.value(config), right.value(config)
                ordered = compare not in (operator.eq, operator.ne)
                if ordered and not all(isinstance(value, int | float) for value in values):
                    return False
                if not compare(*values):
                    return False
            return True

        return holds

    def _operand(self) -> Operand:
        token = self._token
        if token.kind == "number":
            self._next += 1
            return Operand(token, None, float(token.text))
        if token.kind == "text":
            self._next += 1
            return Operand(token, None, token.text[1:-1])
        if token.kind != "name" or token.text in _WORDS:
            self._expected("a field, a number or a text")
        self._next += 1
        if token.text.lower() in _CONSTANTS:
            return Operand(token, None, _CONSTANTS[token.text.lower()])
        if token.text not in FIELDS and not of_method(token.text):
            near = nearest(token.text, FIELDS)
            hint = "" if near is None else f" Did you mean '{near}'?"
            self._fault(token, f"{token.text!r} is no field.{hint} A text needs quotes", near)
        self.fields.append(token.text)
        return Operand(token, token.text, None)

    def _check(self, sign: Token, left: Operand, right: Operand) -> None:
        """Refuse a comparison of values that can never be equal, or that have no order."""
        kinds = {left.kind, right.kind} - {None}
        if len(kinds) > 1:
            named, other = (left, right) if left.field is not None else (right, left)
            kind = words(named.kind) if named.kind is not None else "none"
            self._fault(other.token, f"{other.token.text} is not {kind}, as {named.token.text} is")
        typeless = any(side.field is not None and of_method(side.field) for side in (left, right))
        if sign.text in _ORDERS and kinds != {float} and not (typeless and not kinds):
            self._fault(sign, f"{sign.text} compares numbers; use == or !=")
        for side, other in ((left, right), (right, left)):
            if side.field in FIELDS and other.field is None and kinds == {str}:
                allowed = FIELDS[side.field].allowed
                if isinstance(allowed, tuple) and other.constant not in allowed:
                    try:
                        checked(side.field, other.constant)
                    except UserError as error:
                        self._fault(other.token, str(error).rstrip("."), error.near)

    def _expected(self, what: str) -> NoReturn:
        token = self._token
        if token.kind == "end":
            self._fault(token, f"the rule ends where {what} is missing")
        self._fault(token, f"{token.text!r} where {what} is expected")

    def _fault(self, token: Token, why: str, near: str | None = None) -> NoReturn:
        raise _fault(self._text, token.at, why, near)


def _tokens(text: str) -> Iterator[Token]:
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            start = place + len(text[place:]) - len(text[place:].lstrip())
            wrong = re.match(r"[^\s\w\"'()<>]+|\S", text[start:])
            assert wrong is not None
            meant = _MEANT.get(wrong[0])
            hint = "" if meant is None else f". Did you mean '{meant}'?"
            raise _fault(text, start + 1, f"{wrong[0]!r} means nothing here{hint}", meant)
        yield Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1)
        place = match.end()
    yield Token("end", "", len(text.rstrip()) + 1)


def _fault(text: str, at: int, why: str, near: str | None = None) -> UserError:
    stop = "" if why.endswith(("?", ".")) else "."
    return UserError(f"forbid {text!r}, position {at}: {why}{stop}", near)


def first_broken(rules: Sequence[Rule], config: Mapping[str, Any]) -> Rule | None:
    """Return the first rule that a whole configuration breaks; None if it keeps all."""
    return next((rule for rule in rules if rule.holds(config)), None)
