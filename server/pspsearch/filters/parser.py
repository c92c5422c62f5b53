"""Parses a text into a filter."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Self, cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from pspsearch.errors import BadFilter
from pspsearch.filters.cache import Cache
from pspsearch.filters.expression import And, Comparison, Expression, Not, Operator, Or, Presence, Value
from pspsearch.filters.meaning import Facts, asks_every_text, holds
from pspsearch.number import one_form, read_number
from pspsearch.shared_work import SharedWork

MAX_CHARACTERS = 8192
MAX_DEPTH = 64
MAX_SHORT = 256
"""The longest filter, in characters, that the caller's own thread parses: that takes a few milliseconds."""
MAX_CACHED_BYTES = 8 << 20
"""The bytes of kept trees, half for short filters and half for long ones, so that these do not drive out the others."""
MAX_TEXT_SCANS = 10
"""How many comparisons may look at every text: each takes half a second on a column of a million texts."""

_SHORT_ONES, _LONG_ONES = Cache(MAX_CACHED_BYTES // 2), Cache(MAX_CACHED_BYTES // 2)
_PARSER = SharedWork("filter-parser", 64 * MAX_CHARACTERS, "long filters")
"""Parsing as many characters as may wait takes about two seconds."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PARENTHESES = re.compile(r"\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|([()])", re.DOTALL)
"""Matches quoted texts, too: they may hold some. An unclosed one runs to the end, or its quotes would be tried, too."""
_TRUTH = {"true": True, "false": False}
_ANYTHING = "*"
_WORDS = {
    "NAME": "an attribute's name",
    "QUOTED": "a text in quotes",
    "BARE": "a value",
    "COMPARATOR": "one of = != < <= > >= :",
    "LPAR": "'('",
    "MINUS": "'-'",
    "DOT": "'.'",
    "RPAR": "')'",
    "$END": "the end",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter. Filters with equal texts are equal."""

    text: str
    expression: Expression | None
    """None for `*`, which holds for everything."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses a filter; BadFilter, with the position, if it is none. A long one takes some 30 ms: see `prepare`."""
        return cls(text, None if _is_anything(text) else _parse(text))

    @classmethod
    async def prepare(cls, text: str) -> None:
        """Parses a long text in another thread and keeps the tree for `parse`.

        The tree is sure to be there only until the caller awaits something else. Raises BadFilter as `parse` does, and
        Overloaded if too many texts wait.
        """
        if MAX_SHORT < len(text) <= MAX_CHARACTERS and not _is_anything(text) and _LONG_ONES.find(text) is None:
            _LONG_ONES.keep(text, await _PARSER.run(text, lambda: _read_tree(text), len(text)))

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Whether the filter holds for an item; every faster evaluation must agree with this one."""
        return self.expression is None or holds(self.expression, Facts(attributes))


def _is_anything(text: str) -> bool:
    return text.strip() == _ANYTHING


def _parse(text: str) -> Expression:
    if len(text) > MAX_CHARACTERS:
        raise BadFilter(f"a filter has at most {MAX_CHARACTERS} characters, not {len(text)}", MAX_CHARACTERS)
    cache = _cache_for(text)
    expression = cache.find(text)
    if expression is None:
        expression = _read_tree(text)
        cache.keep(text, expression)
    return expression


def _cache_for(text: str) -> Cache:
    return _SHORT_ONES if len(text) <= MAX_SHORT else _LONG_ONES


def _read_tree(text: str) -> Expression:
    _check_depth(text)
    try:
        expression = cast(Expression, _grammar().parse(text))  # what `_Builder.start` returns
    except UnexpectedInput as error:
        raise _explain(text, error) from error
    _check_scans(expression)
    return expression


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    grammar = resources.files("pspsearch.filters").joinpath("filter.lark").read_text()
    return Lark(grammar, parser="lalr", transformer=_Builder(), maybe_placeholders=False)


def _check_depth(text: str) -> None:
    """Refuses deep nesting; parentheses are the only way to nest, so this bounds every walk through the tree."""
    depth = 0
    for found in _PARENTHESES.finditer(text):
        depth += {"(": 1, ")": -1}.get(found[1] or "", 0)
        if depth > MAX_DEPTH:
            raise BadFilter(
                f"at character {found.start() + 1} the filter has more than {MAX_DEPTH} parentheses inside one another",
                found.start(),
            )


def _check_scans(expression: Expression) -> None:
    scans = [found for found in _comparisons(expression) if asks_every_text(found.operator, found.value)]
    if len(scans) > MAX_TEXT_SCANS:
        position = scans[MAX_TEXT_SCANS].position
        raise BadFilter(
            f"a filter compares texts by order or by pattern at most {MAX_TEXT_SCANS} times,"
            f" and at character {position + 1} it does so once more",
            position,
        )


def _comparisons(expression: Expression) -> Iterator[Comparison]:
    """Yields the comparisons in the order of the text."""
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _comparisons(part)
        case Not(part):
            yield from _comparisons(part)
        case Comparison():
            yield expression
        case Presence():
            pass


def _explain(text: str, error: UnexpectedInput) -> BadFilter:
    if isinstance(error, UnexpectedToken):
        token = cast(Token, error.token)
        at_end = token.type == "$END"
        position = len(text) if at_end else (token.start_pos or 0)
        found, expected = ("it ends" if at_end else f"there is {str(token)[:40]!r}"), error.accepts or ()
    else:
        position = error.pos_in_stream or 0
        found = f"there is {text[position : position + 20]!r}"
        expected = error.allowed if isinstance(error, UnexpectedCharacters) else ()
    words = sorted({_WORDS.get(name, name) for name in expected or ()})
    wanted = f"; expected {', '.join(words[:-1])}{' or ' if len(words) > 1 else ''}{words[-1]}" if words else ""
    return BadFilter(f"at character {position + 1} of the filter {found}{wanted}", position)


class _Builder(Transformer[Token, Expression]):
    """Builds the tree while the text is read, so that nesting, however deep, causes no recursion."""

    def start(self, parts: list[Expression]) -> Expression:
        return parts[0]

    def expression(self, parts: list[Expression]) -> Expression:
        return And(tuple(parts))

    sequence = expression

    def factor(self, parts: list[Expression]) -> Expression:
        return Or(tuple(parts))

    def negation(self, parts: list[Expression]) -> Expression:
        return Not(parts[0])

    def group(self, parts: list[Expression]) -> Expression:
        return parts[0]

    def path(self, names: list[Token]) -> str:
        return ".".join(_unquote(name) if name.type == "QUOTED" else str(name) for name in names)

    def value(self, tokens: list[Token]) -> Token:
        return tokens[0]

    def restriction(self, parts: list[Any]) -> Expression:
        path, operator, token = str(parts[0]), Operator(str(parts[1])), parts[2]
        if operator is Operator.HAS and token.type == "BARE" and token == _ANYTHING:
            return Presence(path)
        return Comparison(path, operator, _read(token), position=parts[1].start_pos)


def _read(token: Token) -> Value:
    if token.type == "QUOTED":
        return _unquote(token)
    if token in _TRUTH:
        return _TRUTH[token]
    return _read_number(token) if _NUMBER.fullmatch(token) else str(token)


def _read_number(token: Token) -> int | float:
    try:
        return one_form(read_number(token))
    except ValueError as error:
        position = token.start_pos or 0
        found = f"at character {position + 1} of the filter there is {str(token)[:40]}"
        raise BadFilter(f"{found}: {error}", position) from error


def _unquote(token: Token) -> str:
    return _ESCAPE.sub(r"\1", token[1:-1])
