"""The paper's own value of what a claim measures: arithmetic over the record's transcription.

`{table-3.h_1} / {table-3.h_4}` is two numbers of `[reported.table-3]`, and the quotient is computed each time that it
is shown, so that it cannot drift from the transcription. A column stands in brackets: `{figure-5.masked[30]}`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from papertest.accept import Value

REFERENCE = re.compile(r"\{([a-z0-9-]+)(?:\.([A-Za-z0-9_]+))?(?:\[([^\]{}]+)\])?\}")
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mean": lambda *x: statistics.fmean(_flat(x)),
    "sum": lambda *x: math.fsum(_flat(x)),
    "min": lambda *x: min(_flat(x)),
    "max": lambda *x: max(_flat(x)),
    "abs": abs,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
}


class Entry(Protocol):
    """What is needed of an entry of `[reported]`."""

    @property
    def value(self) -> Value: ...
    @property
    def columns(self) -> list[float | int | str] | None: ...


@dataclass(frozen=True)
class Computed:
    """The value, and how it comes about in numbers: `5.29 / 4.92`."""

    value: Value
    shown: str


def compute(text: str, reported: Mapping[str, Entry]) -> Computed:
    """Evaluate the text over the entries; ValueError names what is wrong with it."""
    found: dict[str, Any] = {}

    def name(match: re.Match[str]) -> str:
        found[f"_{len(found)}"] = _look_up(match, reported)
        return f"_{len(found) - 1}"

    named = REFERENCE.sub(name, text)
    if not found:
        raise ValueError(f"{text!r} names no entry of [reported], such as {{table-3.h_1}}")
    if "{" in named or "}" in named:
        raise ValueError(f"{text!r} has braces that are no {{id}}, {{id.key}}, {{id[column]}} or {{id.key[column]}}")
    if len(found) == 1 and named.strip() == "_0":
        return Computed(found["_0"], _text(found["_0"]))
    try:
        value = _evaluate(ast.parse(named.strip(), mode="eval").body, found)
    except SyntaxError:
        raise ValueError(f"{text!r} is not arithmetic") from None
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"{text!r} cannot be computed: {error}") from None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{text!r} gives {value!r}, which is no number")
    return Computed(
        value, re.sub(r"_\d+", lambda m: _text(found[m[0]]), named.strip()).replace("**", "^").replace("*", "·")
    )


def _look_up(match: re.Match[str], reported: Mapping[str, Entry]) -> Any:
    whole, (entry_id, key, column) = match[0], match.groups()
    if entry_id not in reported:
        raise ValueError(f"{whole}: there is no [reported.{entry_id}]")
    entry = reported[entry_id]
    value: Any = entry.value
    if key is not None:
        if not isinstance(value, dict) or key not in value:
            keys = ", ".join(cast("dict[str, Any]", value)) if isinstance(value, dict) else "no keys"
            raise ValueError(f"{whole}: [reported.{entry_id}] has {keys}")
        value = cast("dict[str, Any]", value)[key]
    if column is None:
        return value
    if not isinstance(value, list):
        raise ValueError(f"{whole}: there is no list to take [{column}] from")
    row = cast("list[Any]", value)
    labels = [str(label) for label in entry.columns] if entry.columns else [str(i) for i in range(len(row))]
    if column not in labels or labels.index(column) >= len(row):
        raise ValueError(f"{whole}: the columns are {', '.join(labels)}")
    return row[labels.index(column)]


def _evaluate(node: ast.expr, names: dict[str, Any]) -> Any:
    match node:
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.Name(name) if name in names:
            return names[name]
        case ast.BinOp(left, op, right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_evaluate(left, names), _evaluate(right, names))
        case ast.UnaryOp(op, operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_evaluate(operand, names))
        case ast.Call(ast.Name(name), arguments, []) if name in FUNCTIONS:
            evaluated = [_evaluate(argument, names) for argument in arguments]
            try:
                return FUNCTIONS[name](*evaluated)
            except ValueError as error:  # a root of a negative number
                raise ArithmeticError(error) from None
        case _:
            raise ValueError(
                f"only + - * / **, numbers and {', '.join(FUNCTIONS)} are computed, not {ast.unparse(node)!r}"
            )


def _flat(arguments: tuple[Any, ...]) -> list[float]:
    found: list[float] = []
    for argument in arguments:
        found += cast("list[float]", argument) if isinstance(argument, list) else [argument]
    return found


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in cast("dict[str, Any]", value).items())
    if isinstance(value, list):
        return ", ".join(map(_text, cast("list[Any]", value)))
    return f"{value:g}"
