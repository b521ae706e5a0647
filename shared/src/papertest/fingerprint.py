"""Fingerprints: a hash of the code that a claim runs through, read from the source without importing it.

From the claim's function every name it uses is followed to its definition, in this package and in papertest's
measuring modules, and so on. Docstrings, comments, annotations and layout do not count; other packages do not (their
versions stand in the result). A module used as an object counts whole.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from papertest.package import Package

MEASURING = ("bench", "counting", "data", "parity")  # the modules of papertest that make values


class Module:
    """One source file: its top-level definitions and where its imported names come from."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.tree = ast.parse(path.read_text("utf-8"))
        package = path.name == "__init__.py"
        self.parts = name.split(".") if package else name.split(".")[:-1]
        self._imports: dict[ast.AST, dict[str, tuple[str, str | None]]] = {}

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """Top-level statements by every name that they bind; under "" those that bind none but do something."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = [statement.name]
            else:
                names = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            for name in names:
                found.setdefault(name, []).append(statement)
        return found

    def imports(self, node: ast.AST) -> dict[str, tuple[str, str | None]]:
        """local name -> (module, name in it, or None for the module itself), for every import under `node`."""
        if node in self._imports:
            return self._imports[node]
        found: dict[str, tuple[str, str | None]] = {}
        for child in ast.walk(node):
            if isinstance(child, ast.ImportFrom):
                base = self.parts[: len(self.parts) - child.level + 1] if child.level else []
                module = ".".join([*base, *([child.module] if child.module else [])])
                for alias in child.names:
                    found[alias.asname or alias.name] = (module, alias.name)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    found[alias.asname or alias.name.split(".")[0]] = (alias.name, None)
        self._imports[node] = found
        return found


class Sources:
    """The modules that fingerprints look into: the package's own, and papertest's measuring ones."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._modules: dict[str, Module | None] = {}
        self._closures: dict[tuple[str, str | None], dict[str, list[str]]] = {}

    def module(self, name: str) -> Module | None:
        """The module of this dotted name, None where it is another package's."""
        if name not in self._modules:
            top, *rest = name.split(".")
            root = self.package.code if top == self.package.module else Path(__file__).parent
            mine = top == self.package.module or (top == "papertest" and rest[:1] and rest[0] in MEASURING)
            stem = root.joinpath(*rest)
            files = [stem / "__init__.py", stem.with_suffix(".py")] if rest else [root / "__init__.py"]
            path = next((f for f in files if mine and f.exists()), None)
            self._modules[name] = Module(name, path) if path else None
        return self._modules[name]

    @cached_property
    def claims(self) -> dict[str, tuple[str, str]]:
        """Claim id -> (module, function), from the `@claim("id")` decorators in the claim files."""
        return {args[0]: where for where, args in self._decorated("claim")}

    @cached_property
    def figures(self) -> dict[str, tuple[tuple[str, str], list[str]]]:
        """Figure name -> ((module, function), claims), from the `@figure("name", "claim", ...)` decorators."""
        return {args[0]: (where, args[1:]) for where, args in self._decorated("figure")}

    def function(self, claim: str) -> Callable[..., Any]:
        """The function that measures this claim, its module imported."""
        module, name = self.claims[claim]
        return getattr(import_module(module), name)

    def drawing(self, figure: str) -> Callable[..., Any]:
        """The function that draws this figure, its module imported."""
        (module, name), _ = self.figures[figure]
        return getattr(import_module(module), name)

    def _decorated(self, decorator: str) -> list[tuple[tuple[str, str], list[str]]]:
        found: list[tuple[tuple[str, str], list[str]]] = []
        for path in self.package.claim_files:
            parts = path.relative_to(self.package.code.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            module = self.module(name)
            assert module is not None
            for statement in module.tree.body:
                if not isinstance(statement, ast.FunctionDef):
                    continue
                for call in statement.decorator_list:
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator:
                        arguments = [ast.literal_eval(argument) for argument in call.args]
                        found.append(((name, statement.name), arguments))
        return found

    def closure(self, module: str, name: str | None) -> dict[str, list[str]]:
        """Every definition that `name` of `module` runs through: "module:name" -> its normalised source."""
        if (module, name) in self._closures:
            return self._closures[module, name]
        seen: dict[str, list[str]] = {}
        todo: list[tuple[str, str | None]] = [(module, name)]
        while todo:
            where, what = todo.pop()
            source = self.module(where)
            key = f"{where}:{what or ''}"
            if source is None or key in seen:
                continue
            if what is None:
                statements: list[ast.stmt] = source.tree.body
            elif what in source.definitions:
                statements = source.definitions[what]
            elif (target := source.imports(source.tree).get(what)) is not None:
                seen[key] = []
                todo.append(self._target(*target))
                continue
            else:  # a submodule, or a name made in a way that the source does not show
                todo.append((f"{where}.{what}", None))
                continue
            seen[key] = [_normal(statement) for statement in statements]
            outer = source.imports(source.tree)
            for statement in statements:
                local = outer | source.imports(statement)
                for node in ast.walk(_bare(statement)):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                        if node.id in source.definitions:
                            todo.append((where, node.id))
                        elif node.id in local:
                            todo.append(self._target(*local[node.id]))
        self._closures[module, name] = seen  # only now: a file that cannot be parsed must leave no part of it
        return seen

    def _target(self, module: str, name: str | None) -> tuple[str, str | None]:
        """Follow `from package import submodule` to the submodule."""
        if name is not None and self.module(f"{module}.{name}") is not None:
            return f"{module}.{name}", None
        return module, name


def of_claim(sources: Sources, claim: str) -> str:
    """The fingerprint of a claim: its code's closure, and what its record says of value, tier and criterion."""
    record = sources.package.record
    entry = record.claims[claim]
    stated = {
        "reported": {i: record.reported[i].model_dump(include={"value", "unit", "columns"}) for i in entry.reports},
        "claim": [entry.tier, str(entry.accept), entry.runs, entry.needs],
    }
    return of_code(sources, *sources.claims[claim], json.dumps(stated, sort_keys=True, default=str))


def of_code(sources: Sources, module: str, name: str, extra: str = "") -> str:
    """16 hexadecimal digits: SHA-256 of the closure of `module:name`, and of `extra`."""
    closure = sources.closure(module, name)
    text = json.dumps([sorted(closure.items()), extra])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Strip(ast.NodeTransformer):
    """Drops what does not run: docstrings, annotations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def _body(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)


@cache
def _bare(statement: ast.stmt) -> ast.stmt:
    copy = ast.parse(ast.unparse(statement)).body[0]
    return _Strip().visit(copy)


@cache
def _normal(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return ""
    return ast.unparse(_bare(statement))
