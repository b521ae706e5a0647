"""The normal form of Python source: what runs, and nothing of how it is written, the same under every Python.

Only the standard library is used here, so that any Python from 3.11 on can compute it: `python syntax.py FILE` prints
the digest of each top-level statement.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, cast

SHA256 = re.compile(r"[0-9a-f]{64}")
CARRIERS = ("Carrier", "Sdist")  # papertest.data: a distribution is known by the hash of its file


def normal(node: ast.AST) -> Any:
    """The tree as nested lists: node types and fields that hold something.

    Left out are docstrings, annotations, positions, and fields that are empty (other Pythons have others of those).
    Constant pieces of an f-string are joined, since Pythons cut them in different places.
    """
    if isinstance(node, ast.AnnAssign):
        if node.value is None:  # a field of a dataclass: its name and its place count
            return ["Field", normal(node.target)]
        return normal(ast.Assign(targets=[node.target], value=node.value))
    if isinstance(node, ast.Call) and (sha := _carried(node)) is not None:
        return ["Carrier", sha]
    fields: dict[str, Any] = {}
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment", "returns", "annotation", "type_params"):
            continue
        kept = _field(node, name, value)
        if kept is not None and kept != []:
            fields[name] = kept
    return [type(node).__name__, *([fields] if fields else [])]


def _field(node: ast.AST, name: str, value: Any) -> Any:
    if isinstance(value, ast.AST):
        return normal(value)
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if name == "body" and isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            items = [item for item in items if not _words(item)]
        if name == "values" and isinstance(node, ast.JoinedStr):
            items = _joined(items)
        return [normal(item) if isinstance(item, ast.AST) else item for item in items]
    if isinstance(node, ast.Constant) and name == "value":
        return [type(value).__name__, repr(value)]
    return value


def _words(statement: Any) -> bool:
    """Whether a statement is a bare constant, such as a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _joined(pieces: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for piece in pieces:
        if isinstance(piece, ast.Constant):
            if joined and isinstance(joined[-1], ast.Constant):
                joined[-1] = ast.Constant(str(joined[-1].value) + str(piece.value))
            elif piece.value:
                joined.append(piece)
        else:
            joined.append(piece)
    return joined


def _carried(call: ast.Call) -> str | None:
    """The sha256 in `Carrier("name", "version", "sha256", "licence")`: the only part that says which data it is."""
    if not isinstance(call.func, ast.Name) or call.func.id not in CARRIERS:
        return None
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    found = [a.value for a in arguments if isinstance(a, ast.Constant) and SHA256.fullmatch(str(a.value))]
    return str(found[0]) if len(found) == 1 else None


def free(node: ast.AST) -> set[str]:
    """The names that a statement reads from outside of itself when it runs: not parameters, not locals, no annotations.

    Names of a class's body are not seen by its methods, as in Python.
    """
    found: set[str] = set()
    _collect(node, frozenset(), found)
    return found


def _collect(node: ast.AST, local: frozenset[str], found: set[str]) -> None:
    match node:
        case ast.Name(id=name, ctx=ast.Load()):
            if name not in local:
                found.add(name)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            _function(node, local, local, found)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            _collect(node.generators[0].iter, local, found)  # read before the comprehension's own names are there
            names = _bound([generator.target for generator in node.generators])
            for child in ast.iter_child_nodes(node):
                _collect(child, local | names, found)
        case ast.ClassDef():
            for child in [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]:
                _collect(child, local, found)
            names: set[str] = set()  # that the statements above have bound
            for child in node.body:
                bound = _bound([child])
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    _function(child, local | names, local, found)
                elif isinstance(child, ast.Assign | ast.AnnAssign):  # `g = g(1)` reads the module's
                    _collect(child, local | names | _bound([child.value]), found)
                else:
                    _collect(child, local | names | bound, found)
                names |= bound
        case ast.AnnAssign():
            for child in (node.target, node.value):
                if child is not None:
                    _collect(child, local, found)
        case _:
            for child in ast.iter_child_nodes(node):
                if not _words(child):
                    _collect(child, local, found)


def _function(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
    outside: frozenset[str],
    local: frozenset[str],
    found: set[str],
) -> None:
    """Defaults and decorators are read `outside`, where the function is defined; a method's body sees other names."""
    read = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
    for child in [*read, *([] if isinstance(node, ast.Lambda) else node.decorator_list)]:
        _collect(child, outside, found)
    body = [node.body] if isinstance(node, ast.Lambda) else [s for s in node.body if not _words(s)]
    names = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)} | _bound(body)
    for child in body:
        _collect(child, local | names, found)


def _bound(nodes: list[Any]) -> set[str]:
    """The names that these bind in their own scope: targets, imports, definitions, exceptions, captures."""
    names: set[str] = set()
    outer: set[str] = set()
    todo: list[ast.AST] = [node for node in nodes if node is not None]
    while todo:
        node = todo.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue  # what is inside is another scope
            case ast.Lambda():
                continue
            case ast.comprehension():  # its target is another scope; a walrus inside is not
                todo += [node.iter, *node.ifs]
                continue
            case ast.Global(names=stated) | ast.Nonlocal(names=stated):
                outer |= set(stated)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name.split(".")[0])
            case _:
                pass
        todo += ast.iter_child_nodes(node)
    return names - outer


def digest(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the content's JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    for statement in ast.parse(Path(sys.argv[1]).read_text("utf-8")).body:
        print(digest(normal(statement)))
