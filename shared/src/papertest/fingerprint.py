"""Fingerprints: a hash of the code that a claim runs through, read from the source without importing it.

From the claim's function every name it uses is followed to its definition, in this package and in papertest's
measuring modules, and so on; with a definition count the statements of its module that do something when it is imported
(`register(...)`, `f.defvjp(...)`). Docstrings, comments, annotations and layout do not count; other packages do not
(their versions stand in the sample). A module used as an object counts whole. A name that cannot be resolved raises.
"""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from papertest.package import Package
from papertest.syntax import digest, free, normal

MEASURING = ("bench", "counting", "models", "parity", "texts", "threads")  # the modules of papertest that make values
KNOWN = {*dir(builtins), "__name__", "__file__", "__doc__", "__package__", "__spec__", "__class__", "__path__"}
WHOLE = ""  # in place of a definition's name: the statements that bind nothing but do something


class FingerprintError(RuntimeError):
    """Code that cannot be followed; the message names the file's module, the name and what to do."""


class Module:
    """One source file: its top-level definitions and where its imported names come from."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.tree = ast.parse(path.read_text("utf-8"))
        package = path.name == "__init__.py"
        self.parts = name.split(".") if package else name.split(".")[:-1]
        self._imports: dict[ast.AST, dict[str, list[tuple[str, str | None]]]] = {}

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """Top-level statements by every name that they bind; under WHOLE those that bind none but do something."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            if not _runs(statement):
                continue
            for name in sorted(_top_level(statement)) or [WHOLE]:
                found.setdefault(name, []).append(statement)
            if _acts(statement):
                found.setdefault(WHOLE, []).append(statement)
        return found

    @cached_property
    def stars(self) -> list[str]:
        """The modules from which `from x import *` brings names."""
        return [
            self._absolute(node)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
        ]

    def imports(self, node: ast.AST) -> dict[str, list[tuple[str, str | None]]]:
        """local name -> (module, name in it, or None for the module itself), for every import under `node`.

        One name may come from several: `try: from fast import f`, `except ImportError: from slow import f`.
        """
        if node in self._imports:
            return self._imports[node]
        found: dict[str, list[tuple[str, str | None]]] = {}
        for child in ast.walk(node):
            if isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    found.setdefault(alias.asname or alias.name, []).append((self._absolute(child), alias.name))
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    found.setdefault(alias.asname or alias.name.split(".")[0], []).append((alias.name, None))
        self._imports[node] = found
        return found

    def _absolute(self, node: ast.ImportFrom) -> str:
        base = self.parts[: len(self.parts) - node.level + 1] if node.level else []
        return ".".join([*base, *([node.module] if node.module else [])])


class Sources:
    """The modules that fingerprints look into: the package's own, and papertest's measuring ones."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._modules: dict[str, Module | None] = {}
        self._closures: dict[tuple[str, str | None], dict[str, list[Any]]] = {}

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
        found: dict[str, tuple[str, str]] = {}
        for where, (claim, *_) in self._decorated("claim"):
            if claim in found:
                both = " and ".join(f"{module}.{name}" for module, name in (found[claim], where))
                raise FingerprintError(f'@claim("{claim}") stands on two functions, {both}: a claim has one')
            found[claim] = where
        return found

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

    def closure(self, module: str, name: str | None) -> dict[str, list[Any]]:
        """Every definition that `name` of `module` runs through: "module:name" -> its normal form."""
        if (module, name) in self._closures:
            return self._closures[module, name]
        seen: dict[str, list[Any]] = {}
        looked: set[tuple[str, str | None]] = set()
        todo: list[tuple[str, str | None]] = [(module, name)]
        while todo:
            where, what = place = todo.pop()
            source = self.module(where)
            if source is None or place in looked:
                continue
            looked.add(place)
            key = f"{where}:{'*' if what is None else what}"
            if what is None:
                statements = [s for s in source.tree.body if _runs(s)]
            elif what == WHOLE or what in source.definitions:
                statements = source.definitions.get(what, [])
            else:
                seen[key] = []
                todo += self._origin(source, what)
                continue
            if statements or what != WHOLE:
                seen[key] = [_normal(statement) for statement in statements]
            todo += [(where, WHOLE), *((parent, WHOLE) for parent in _parents(where))]
            for statement in statements:
                todo += self._uses(source, statement)
        self._closures[module, name] = seen  # only now: a file that cannot be parsed must leave no part of it
        return seen

    def _uses(self, source: Module, statement: ast.stmt) -> Iterator[tuple[str, str | None]]:
        """Where the names that a statement reads come from."""
        local = source.imports(source.tree)
        for name in sorted(free(statement)):
            if name in source.definitions:
                yield source.name, name
            elif name in local or name not in KNOWN:
                yield from self._origin(source, name)
        for targets in source.imports(statement).values():  # imports inside of a function
            yield from (self._target(*target) for target in targets)

    def _origin(self, source: Module, name: str) -> list[tuple[str, str | None]]:
        """Where a name that the module does not define comes from; FingerprintError where nothing shows it."""
        imported = source.imports(source.tree)
        if name in imported:
            return [self._target(*target) for target in imported[name]]
        if self.module(f"{source.name}.{name}") is not None:
            return [(f"{source.name}.{name}", None)]
        for star in source.stars:
            other = self.module(star)
            if other is None:
                return [(star, name)]  # of another package, whose version stands in the sample
            if name in other.definitions or name in other.imports(other.tree):
                return [(star, name)]
        raise FingerprintError(f"{source.name}: nothing in the source shows what `{name}` is, so a change of it would "
                               "go unseen: define or import it by name")  # fmt: skip

    def _target(self, module: str, name: str | None) -> tuple[str, str | None]:
        """Follow `from package import submodule` to the submodule."""
        if name is not None and self.module(f"{module}.{name}") is not None:
            return f"{module}.{name}", None
        return module, name


def of_claim(sources: Sources, claim: str) -> str:
    """The fingerprint of a claim: its code's closure, and what its record says of value, tier and criterion."""
    return of_code(sources, *sources.claims[claim], stated(sources.package, claim))


def stated(package: Package, claim: str) -> str:
    """What of the record a measurement and its criterion are: not how many seeds, each of which is one by itself."""
    entry, record = package.claims[claim], package.record_of(claim)
    reported = {i: record.reported[i].model_dump(include={"value", "unit", "columns"}) for i in entry.reports}
    said = {"reported": reported, "claim": [entry.tier, str(entry.accept), entry.needs]}
    return json.dumps(said, sort_keys=True, default=str)


def of_code(sources: Sources, module: str, name: str, extra: str = "") -> str:
    """16 hexadecimal digits: SHA-256 of the closure of `module:name`, and of `extra`."""
    return digest([sorted(sources.closure(module, name).items()), extra])


@cache
def _normal(statement: ast.stmt) -> Any:
    return normal(statement)


def _parents(module: str) -> list[str]:
    """The packages that importing a module imports."""
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _runs(statement: ast.stmt) -> bool:
    """Whether a top-level statement counts: not imports (what they bring is followed), nor docstrings."""
    if isinstance(statement, ast.If) and not statement.orelse and isinstance(statement.test, ast.Name):
        return statement.test.id != "TYPE_CHECKING"
    words = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return not words and not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass)


@cache
def _top_level(statement: ast.stmt) -> frozenset[str]:
    """The names that a top-level statement binds in its module: not those inside of functions, classes, lambdas."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return frozenset([statement.name])
    names: set[str] = set()
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names if alias.name != "*"}
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return frozenset(names)


def _acts(statement: ast.stmt) -> bool:
    """Whether a statement that also binds names does something else when it is imported: inside, a call on its own, or
    an entry or attribute that is set (`TABLE[name] = f`)."""
    if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
        return any(map(_changes, _statements(statement)))
    return False


def _changes(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if isinstance(statement, ast.Assign | ast.Delete):
        return any(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    return isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Attribute | ast.Subscript)


def _statements(statement: ast.stmt) -> Iterator[ast.stmt]:
    """The statements inside of a compound one that run on import."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt) and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
            yield from _statements(child)
        elif isinstance(child, ast.ExceptHandler):
            yield from (inner for inner in child.body)
