"""Fingerprints: the same under every Python, of what runs and nothing else, and never with a name unaccounted for."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from papertest import fingerprint, syntax
from papertest.fingerprint import FingerprintError, Sources
from papertest.package import Package

HARD = r'''"""A module docstring."""
import os as system, sys
from math import (pi,
                  tau as turn)

LIMIT: int = 10_000
NOTHING: "str"
TEXT = "a\tb\x41\N{EM DASH}\u00e9" 'c' """d
e"""
RAW = rb"\d" b"\x00" + br'\\'
NUMBERS = 1j, 0x_ff, 0b1, 0o17, 1e-7, .5, 5., -0.0, 1_000.5e+3, 2 + 3j, 10**400
DOTS = ..., None, True, NotImplemented
first, *middle, last = [*range(3), *{1, 2}]
{**{"a": 1}, "b": 2}
matrix = xs @ ys
x = y = z = lambda a, /, b=1, *c, d, e=2, **f: (a, b, c, d, e, f)
a, (b, [c, *d]) = 1, (2, [3, 4, 5])
total += 1
total //= 2
del a, total


def plain(x, y=1, *args, key: int = 2, other, **more) -> str:
    """A docstring
        of two lines."""
    1
    "text"
    return f"{x}" f"{y!r}" "tail" f'{key:>{width}.{digits}f}' f"{{}}" rf"\d{x}" f"{x:%H:%M}" f"{other=}" f"{ x = !s:^9}"


def spread(x):
    return (f"{f'{x}'}" + f"{x['a']}" f"{x:{'>' + '9'}}" f"" "" f"{x}{y}" "b" f"c"
            f"""{
        x
    }""" + f"{x!a}" + F"{x:{y}{z}}" + f"{(lambda u: u)(x)}" + f"\n{x}\t" + f"{x:}" + f"{x,}" + f"{ {1: 2}[1] }")


@system.cache
@decorate(1, key=[2])
class Thing(Base, metaclass=Meta, **more):
    """A docstring."""

    count: int = 0
    name: str
    pass

    def method(self): ...

    @property
    async def value(self, /):
        async with open(1) as f, open(2):
            async for i in f:
                await i
        return [i async for i in f if i if not i]


def control(n):
    global LIMIT
    while (n := n - 1) > 0:
        if n % 2 == 0 and not n or n in (1, 2) and n is not None:
            continue
        elif n < 3 <= 4 != 5:
            break
        else:
            yield n
    else:
        yield from range(n)
    for i, j in zip(a, b, strict=True):
        pass
    else:
        assert i, "message"
    with (open(1) as f, open(2) as (g, h)):
        nonlocal_ = 1 if n else 2
    try:
        raise ValueError from None
    except (A, B) as error:
        raise
    except C:
        pass
    except:
        ...
    else:
        pass
    finally:
        return


def group():
    try:
        pass
    except* (ValueError, TypeError) as many:
        raise RuntimeError from many


def match(point):
    match point:
        case 0 | -1 | 1 + 2j | "a" | None | True:
            pass
        case [x, *rest, y] if x > 0:
            pass
        case {"a": 1, "b": [_, *_], **others}:
            pass
        case Point(x=0, y=(1 | 2) as both) | Point(0, 1):
            pass
        case sys.maxsize:
            pass
        case (a, b) as whole:
            pass
        case str():
            pass
        case _:
            pass


def outer():
    n = 1

    def inner():
        nonlocal n
        n = {k: v for k, v in n.items() if k for q in v}, {s for s in n}, (g for g in n), [l for l in n][::-1, ..., 1:2]
        print(*n, sep="", **n)
        return not n, ~n, +n, n if n else n, n[0], n.a.b, n << 1 | 2 & 3 ^ 4 >> 5 % 6 / 7 - 8

    return inner


if x:
    pass
if __name__ == "__main__": x; y
async def later(): return await outer()
type_ = print("a"); type_: list[int] = [1]
'''
DIGESTS = [  # of its statements
    "fa9858be5c31366b", "949e224d30cab715", "102f299a9cb68f8b", "53189a49cb51f3eb", "206aa77e0471c0d0",
    "eb28146ae8a4b5e4", "c55a3bb9f46b90c9", "6601c8e014a6931f", "d3f66e3d375652ec", "7ceacd25ace31df1",
    "5c14608b1a3a2211", "38365110ef30a79a", "11d18dec5f857e8a", "4bd76edbbc0505ba", "38c1659abbcaaccb",
    "6a7eb7e12ed21360", "5f9240075fbc515b", "f043d78e340374c5", "1e39ce8427b45943", "5b5333e766f23c89",
    "31695e24018c68fa", "cc558004f216ae5c", "47a29d4d5d394254", "5270a8f29e3c995b", "37c4658c55af53aa",
    "be44084b0521dce4", "c72ba59eb3b6ccbf", "e43761f0d74086c6", "b66c325977403107",
]  # fmt: skip


def pythons() -> dict[str, str]:
    """Every Python from 3.11 on that is found here: version -> executable, this one among them."""
    names = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    if (pyenv := shutil.which("pyenv")) is not None:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
        names += [str(path) for path in sorted(Path(root).glob("versions/3.1[1-9]*/bin/python"))]
    found = {sys.version.split()[0]: sys.executable}
    for name in filter(None, names):
        asked = subprocess.run(
            [name, "-c", "import sys; print(sys.version.split()[0])"], capture_output=True, text=True
        )
        if asked.returncode == 0:  # pyenv has names for Pythons that are not installed
            found.setdefault(asked.stdout.strip(), name)
    return found


def test_fields_of_a_dataclass_count_in_their_order():
    def form(body: str):
        return syntax.normal(ast.parse(f"class A:\n    {body}").body[0])

    assert form("x: int\n    y: int") == form("x: float\n    y: str")  # what they are annotated with does not
    assert form("x: int\n    y: int") != form("y: int\n    x: int")
    assert form("x: int") != form("z: int")


def test_digests_are_the_same_under_every_python(tmp_path: Path):
    """One that is not known here to differ is no proof for others, so the digests themselves are stored."""
    (tmp_path / "hard.py").write_text(HARD, "utf-8")
    for version, python in pythons().items():
        done = subprocess.run([python, syntax.__file__, str(tmp_path / "hard.py")], capture_output=True, text=True)
        assert done.stdout.split() == DIGESTS, f"Python {version} {done.stderr}"


def test_free_names_are_the_same_under_every_python(tmp_path: Path):
    (tmp_path / "hard.py").write_text(HARD, "utf-8")
    code = (
        "import ast, json, runpy, sys; free = runpy.run_path(sys.argv[1])['free']; "
        "body = ast.parse(open(sys.argv[2], encoding='utf-8').read()).body; "
        "print(json.dumps([sorted(free(s)) for s in body]))"
    )
    found = {
        version: subprocess.run(
            [python, "-c", code, syntax.__file__, str(tmp_path / "hard.py")], capture_output=True, text=True
        ).stdout
        for version, python in pythons().items()
    }
    assert len(set(found.values())) == 1, found
    names = json.loads(found[sys.version.split()[0]])
    assert len(names) == len(DIGESTS) and {"system", "width", "digits", "Base", "Meta"} <= {n for s in names for n in s}


def build(root: Path, files: dict[str, str]) -> Package:
    """A package `p` of these modules, beside which nothing is needed to follow its code."""
    code = root / "packages" / "p" / "src" / "p"
    shutil.rmtree(code, ignore_errors=True)
    for name, text in {"__init__.py": "", **files}.items():
        path = code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Package.at(code)


def closure(root: Path, **files: str) -> dict[str, list[object]]:
    """What `claim` of reproduce.py runs through."""
    sources = Sources(build(root, {f"{name}.py": text for name, text in files.items()}))
    return sources.closure("p.reproduce", "claim")


def mark(root: Path, **files: str) -> str:
    sources = Sources(build(root, {f"{name}.py": text for name, text in files.items()}))
    return fingerprint.of_code(sources, "p.reproduce", "claim")


HELPERS = '''"""Helpers."""
import math
from dataclasses import dataclass

SCALE: float = 2.0


@dataclass(frozen=True)
class Config:
    """Sizes."""

    width: int = 4
    depth: int = 2

    @property
    def size(self) -> int:
        return self.width * self.depth


def helper(x: float, power: int = 1) -> float:
    """x, scaled."""
    return math.sqrt(x) * SCALE ** power


def unrelated():
    return 1
'''
REPRODUCE = """
from p.helpers import Config, helper


def decorate(function):
    return function


@decorate
def claim(run, k=3):
    config = Config()
    return [helper(x, power=2) for x in range(config.size + k)]
"""
SAME = {
    "a docstring": ("helpers", '"""x, scaled."""', '"""x times a scale."""'),
    "no docstring": ("helpers", '    """x, scaled."""\n', ""),
    "a class's docstring": ("helpers", '    """Sizes."""\n', ""),
    "a module's docstring": ("helpers", '"""Helpers."""\n', ""),
    "a comment": ("helpers", "return math", "# why\n    return math"),
    "layout": ("helpers", "math.sqrt(x) * SCALE ** power", "(\n        math.sqrt(x)\n        * SCALE**power\n    )"),
    "quotes": ("reproduce", "from p.helpers import Config, helper", "from p.helpers import (helper, Config)"),
    "annotations": ("helpers", "def helper(x: float, power: int = 1) -> float:", "def helper(x, power=1):"),
    "a constant's annotation": ("helpers", "SCALE: float = 2.0", "SCALE = 2.0"),
    "what is not used": ("helpers", "return 1", "return 2"),
    "an import that is not used": ("helpers", "import math\n", "import math\nimport os\n"),
    "an import under TYPE_CHECKING": (
        "helpers", "import math\n",
        "import math\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"),
    "the order of definitions": ("helpers", "def unrelated():\n    return 1\n", ""),
}  # fmt: skip
OTHER = {
    "a body": ("helpers", "SCALE ** power", "SCALE * power"),
    "a constant": ("helpers", "SCALE: float = 2.0", "SCALE: float = 2.5"),
    "a constant's type": ("helpers", "SCALE: float = 2.0", "SCALE: float = 2"),
    "a default": ("helpers", "power: int = 1", "power: int = 2"),
    "the claim's default": ("reproduce", "k=3", "k=4"),
    "a keyword": ("reproduce", "power=2", "power=3"),
    "a decorator's body": ("reproduce", "return function", "return lambda *a: function(*a)"),
    "no decorator": ("reproduce", "@decorate\n", ""),
    "a decorator's argument": ("helpers", "frozen=True", "frozen=False"),
    "a field's default": ("helpers", "depth: int = 2", "depth: int = 3"),
    "a property": ("helpers", "self.width * self.depth", "self.width + self.depth"),
    "a second definition": ("helpers", "def unrelated():", "SCALE = 3\n\n\ndef unrelated():"),
    "a constant that is changed": ("helpers", "def unrelated():", "SCALE += 1\n\n\ndef unrelated():"),
    "a call in the module": ("helpers", "def unrelated():", "register(helper)\n\n\ndef unrelated():"),
    "a call on it": ("helpers", "def unrelated():", "helper.defvjp(1)\n\n\ndef unrelated():"),
    "an attribute that is set": ("helpers", "def unrelated():", "helper.traced = True\n\n\ndef unrelated():"),
    "an entry that is set": ("helpers", "def unrelated():", "TABLE[1] = 2\n\n\ndef unrelated():"),
    "a call in the module that the claim is in": ("reproduce", "def decorate", "math.seed(1)\n\n\ndef decorate"),
}
NEW = "from builtins import print as register, dict\nimport math\nTABLE = {}\n"


@pytest.mark.parametrize("what", SAME)
def test_how_code_is_written_does_not_count(tmp_path: Path, what: str):
    files = {"helpers": HELPERS, "reproduce": REPRODUCE}
    name, old, new = SAME[what]
    assert old in files[name]
    assert mark(tmp_path, **files) == mark(tmp_path, **files | {name: files[name].replace(old, new)})


@pytest.mark.parametrize("what", OTHER)
def test_what_runs_counts(tmp_path: Path, what: str):
    files = {"helpers": HELPERS.replace("import math\n", NEW), "reproduce": f"import math\n{REPRODUCE}"}
    name, old, new = OTHER[what]
    assert old in files[name]
    assert mark(tmp_path, **files) != mark(tmp_path, **files | {name: files[name].replace(old, new)})


def test_a_module_level_call_anywhere_on_the_way_counts(tmp_path: Path):
    """In a package's __init__, in the module of a helper, and inside of a compound statement."""
    files = {"helpers": HELPERS, "reproduce": REPRODUCE}
    plain = mark(tmp_path, **files)
    marks = {
        plain,
        mark(tmp_path, **files, __init__="print(1)"),
        mark(tmp_path, **files, __init__="if True:\n    print(1)"),
        mark(tmp_path, **files, __init__="for i in range(3):\n    print(i)"),
        mark(tmp_path, **files, __init__="T = {}\nfor i in range(3):\n    T[i] = 1"),
        mark(tmp_path, **files, __init__="T = {}\nfor i in range(3):\n    T[i] = 2"),
        mark(tmp_path, **files, __init__="T = {}\nfor i in range(3):\n    T.a += 2"),
        mark(tmp_path, **files, __init__="try:\n    import json\n    json.a = 1\nexcept ImportError:\n    json = None"),
        mark(tmp_path, **files, __init__="with open('x') as f:\n    print(f)"),
        mark(tmp_path, **files, __init__="try:\n    pass\nexcept ImportError:\n    print(1)"),
    }
    assert len(marks) == 10
    assert mark(tmp_path, **files, __init__="X = print(1)") == plain  # nothing uses it


def test_what_a_module_level_call_runs_through_counts(tmp_path: Path):
    reproduce = "from p.other import seven\n\ndef claim(run):\n    return seven\n"
    other = "from p.third import register\n\nseven = 7\nregister(seven)\n"
    third = "def register(x):\n    return x\n"
    files = {"reproduce": reproduce, "other": other}
    assert "p.third:register" in closure(tmp_path, **files, third=third)
    assert mark(tmp_path, **files, third=third) != mark(tmp_path, **files, third=third.replace("return x", "return 0"))


DEFINED = {
    "under if": ("if LIMIT > 1:\n    def f():\n        return g()\nelse:\n    def f():\n        return 0\nLIMIT = 2\n"),
    "under try": "try:\n    from absent import f\nexcept ImportError:\n    def f():\n        return g()\n",
    "as a lambda": "f = lambda: g()\n",
    "in a tuple": "f, h = (lambda: g()), 2\n",
    "by a loop": "for f in [lambda: g()]:\n    pass\n",
    "by with": "with open('x') as f:\n    g()\n",
    "by a walrus": "print(f := g())\n",
    "with a star": "*f, h = [g(), 2]\n",
    "as a class": "class f:\n    def __call__(self):\n        return g()\n",
    "as an async function": "async def f():\n    return g()\n",
    "as an alias": "from p.third import g as f\n",
    "by its module": "import p.third as third\n\ndef f():\n    return third.g()\n",
    "by its dotted module": "import p.third\n\ndef f():\n    return p.third.g()\n",
    "by an import inside": "def f():\n    from p.third import g as h\n    return h()\n",
    "by a relative import": "from .third import g as f\n",
    "by the package": "from p import third\n\ndef f():\n    return third.g()\n",
    "by a default": "def f(x=g()):\n    return x\n",
    "by a decorator": "@g\ndef f():\n    pass\n",
    "by a base": "class f(g):\n    pass\n",
    "by a keyword of a class": "class f(metaclass=g):\n    pass\n",
    "in a class's body": "class f:\n    x = g()\n",
    "in a method's default": "class f:\n    def method(self, x=g()):\n        return x\n",
    "in a comprehension": "def f():\n    return [x for x in g()]\n",
    "in a comprehension of its own name": "def f():\n    return [g for g in g()]\n",
    "beside a comprehension of its own name": "def f():\n    return [g for g in range(3)], g()\n",
    "in a comprehension's condition": "def f():\n    return {x for x in [] if g()}\n",
    "in a nested function": "def f():\n    def inner():\n        return g()\n    return inner\n",
    "in an f-string": 'def f():\n    return f"{1:{g()}}"\n',
    "as global": "def f():\n    global g\n    x = g()\n    g = 1\n    return x\n",
    "in match": "def f(x):\n    match x:\n        case [] if g():\n            pass\n",
    "as a pattern": "def f(x):\n    match x:\n        case g():\n            pass\n",
    "in except": "def f():\n    try:\n        pass\n    except g:\n        pass\n",
    "in the class that rebinds it": "class f:\n    g = g()\n",
}


@pytest.mark.parametrize("how", DEFINED)
def test_however_a_name_is_defined_or_used_it_is_followed(tmp_path: Path, how: str):
    third = "def g(*args):\n    return deep()\n\ndef deep():\n    return 1\n"
    other = f"from p.third import g\n{DEFINED[how]}"
    reproduce = "from p.other import f\n\ndef claim(run):\n    return f()\n"
    found = closure(tmp_path, reproduce=reproduce, other=other, third=third)
    assert "p.third:deep" in found or "p.third:*" in found, sorted(found)


UNUSED = {
    "a parameter": "def f(g):\n    return g()\n",
    "a keyword-only parameter": "def f(*, g=1):\n    return g()\n",
    "star parameters": "def f(*g):\n    return g\n",
    "double star parameters": "def f(**g):\n    return g\n",
    "a lambda's parameter": "f = lambda g: g()\n",
    "a local": "def f():\n    g = 1\n    return g\n",
    "a loop's variable": "def f():\n    for g in []:\n        g()\n",
    "a comprehension's variable": "def f():\n    return [g() for g in []]\n",
    "a nested comprehension's variable": "def f():\n    return [g() for x in [] for g in x]\n",
    "a nested function": "def f():\n    def g():\n        pass\n    return g()\n",
    "an outer function's local": "def f():\n    g = 1\n    def inner():\n        return g\n    return inner\n",
    "a nonlocal": "def f():\n    g = 1\n    def inner():\n        nonlocal g\n        g += 1\n    return inner\n",
    "an exception's name": "def f():\n    try:\n        pass\n    except ValueError as g:\n        return g\n",
    "a pattern's name": "def f(x):\n    match x:\n        case [g, *_]:\n            return g\n",
    "a pattern's rest": "def f(x):\n    match x:\n        case {1: 2, **g}:\n            return g\n",
    "an import inside": "def f():\n    import math as g\n    return g\n",
    "a walrus": "def f():\n    return (g := 1) + g\n",
    "a walrus in a comprehension": "def f():\n    return [(g := x) for x in []] + [g]\n",
    "with's name": "def f():\n    with open('x') as g:\n        return g\n",
    "a class's attribute": "class f:\n    g = 1\n    x = g\n",
    "an annotation": "def f(x: g) -> g:\n    y: g = 1\n    return x\n",
    "a keyword's name": "def f():\n    return dict(g=1)\n",
    "an attribute": "def f(x):\n    return x.g()\n",
    "an f-string's text": 'def f():\n    return f"g"\n',
}


@pytest.mark.parametrize("how", UNUSED)
def test_a_name_that_stands_for_something_else_is_not_followed(tmp_path: Path, how: str):
    third = "def g(*args):\n    return 1\n"
    other = f"from p.third import g\n{UNUSED[how]}"
    reproduce = "from p.other import f\n\ndef claim(run):\n    return f()\n"
    assert "p.third:g" not in closure(tmp_path, reproduce=reproduce, other=other, third=third)


def test_names_of_a_class_are_seen_by_its_body_and_not_by_its_methods(tmp_path: Path):
    other = """
from p.third import g

class f:
    n = 3
    @property
    def size(self):
        return self.n
    @size.setter
    def size(self, value, default=n):
        self.n = value
    def method(self):
        return g()
    g = method
"""
    reproduce = "from p.other import f\n\ndef claim(run):\n    return f()\n"
    assert "p.third:g" in closure(tmp_path, reproduce=reproduce, other=other, third="def g(): pass\n")


def test_every_branch_that_brings_a_name_is_followed(tmp_path: Path):
    other = "try:\n    from p.fast import f\nexcept ImportError:\n    from p.slow import f\n"
    reproduce = "from p.other import f\n\ndef claim(run):\n    return f()\n"
    files = {name: f"def f():\n    return '{name}'\n" for name in ("fast", "slow")}
    assert {"p.fast:f", "p.slow:f"} <= set(closure(tmp_path, reproduce=reproduce, other=other, **files))
    inside = (
        "def claim(run):\n    if run:\n        from p.fast import f\n    else:\n        from p.slow import f\n    f()\n"
    )
    assert {"p.fast:f", "p.slow:f"} <= set(closure(tmp_path, reproduce=inside, **files))


def test_two_modules_of_one_package_are_both_followed(tmp_path: Path):
    reproduce = "import p.fast\nimport p.slow\n\ndef claim(run):\n    return p.fast.f() + p.slow.f()\n"
    files = {name: f"def f():\n    return '{name}'\n" for name in ("fast", "slow")}
    assert {"p.fast:*", "p.slow:*"} <= set(closure(tmp_path, reproduce=reproduce, **files))


def test_star_imports(tmp_path: Path):
    reproduce = "from p.other import *\nfrom math import *\n\ndef claim(run):\n    return f() + sqrt(2)\n"
    files = {"reproduce": reproduce, "other": "from p.third import f\n"}
    found = closure(tmp_path, **files, third="def f():\n    return 1\n")
    assert "p.third:f" in found
    reproduce = "from p.other import *\n\ndef claim(run):\n    return f() + sqrt(2)\n"
    with pytest.raises(FingerprintError, match="^p.reproduce: nothing in the source shows what `sqrt` is"):
        closure(tmp_path, reproduce=reproduce, other="def f(): pass\n")


@pytest.mark.parametrize(
    ("files", "where", "name"),
    [
        ({"reproduce": "def claim(run):\n    return absent()\n"}, "p.reproduce", "absent"),
        ({"reproduce": "from p.other import absent\n\ndef claim(run):\n    return absent()\n", "other": ""}, "p.other",
         "absent"),
        ({"reproduce": "from p.other import f\n\ndef claim(run):\n    return f()\n",
          "other": "globals()['f'] = print\n"}, "p.other", "f"),
        ({"reproduce": "def claim(run):\n    return f()\n\nprint(wrong)\n\ndef f(): pass\n"}, "p.reproduce", "wrong"),
    ],
)  # fmt: skip
def test_a_name_that_nothing_shows_raises_and_is_named(tmp_path: Path, files: dict[str, str], where: str, name: str):
    with pytest.raises(FingerprintError) as unseen:
        closure(tmp_path, **files)
    assert str(unseen.value) == (
        f"{where}: nothing in the source shows what `{name}` is, so a change of it would go unseen: "
        "define or import it by name"
    )


def test_such_a_name_ends_the_command_in_one_line(toy):
    toy.edit(toy.claims, "double(21)", "duble(21)")
    done = toy.run()
    assert (done.code, toy.log()) == (2, [])
    assert done.err == ("reproduce: toy.reproduce.claims: nothing in the source shows what `duble` is, so a change of "
                        "it would go unseen: define or import it by name\n")  # fmt: skip


def test_two_functions_that_claim_one_id_raise_and_are_named(tmp_path: Path):
    one = 'from papertest import claim\n\n@claim("x")\ndef {}(run):\n    return 1\n'
    package = build(tmp_path, {"reproduce/__init__.py": "", "reproduce/a.py": one.format("f"),
                               "reproduce/b.py": one.format("g")})  # fmt: skip
    with pytest.raises(FingerprintError) as twice:
        _ = Sources(package).claims
    assert str(twice.value) == (
        '@claim("x") stands on two functions, p.reproduce.a.f and p.reproduce.b.g: a claim has one'
    )


def test_data_is_known_by_its_hash_alone(tmp_path: Path):
    old, new = "a" * 64, "b" * 64
    code = 'from papertest.data import {0}\nDATA = {0}({1})\n\ndef claim(run):\n    return DATA.path("x")\n'

    def of(arguments: str, kind: str = "Carrier") -> str:
        return mark(tmp_path, reproduce=code.format(kind, arguments))

    first = of(f'"name", "1.0", "{old}", "MIT"')
    assert of(f'"renamed", "2.0", "{old}", "CC0"') == first
    assert of(f'name="name", version="1.0", sha256="{old}", licence="MIT"') == first
    assert of(f'"name", "1.0", "{new}", "MIT"') != first
    assert of(f'"name", "1.0", "{old}"[:], "MIT"') != of(f'"name", "2.0", "{old}"[:], "MIT"')  # no hash to see: whole
    assert of(f'"name", "1.0", "{old}", "MIT"', "Sdist") == first  # how it is packed says nothing of what is in it


def test_papertests_measuring_modules_count_and_its_others_do_not(tmp_path: Path):
    reproduce = """
from papertest import bench, claim
from papertest.counting import exponent
from papertest.data import Carrier
from papertest.models import minilm


@claim("x")
def claim(run):
    return exponent([1], [2]), bench.PAIRS, Carrier, minilm
"""
    found = {key.split(":")[0] for key in closure(tmp_path, reproduce=reproduce)}
    assert {"p.reproduce", "papertest.counting", "papertest.bench", "papertest.models"} <= found
    assert not found & {f"papertest.{name}" for name in ("data", "store", "records", "measure", "accept", "files")}


def test_a_module_used_as_an_object_counts_whole(tmp_path: Path):
    reproduce = "from p import other\n\ndef claim(run):\n    return other.f()\n"
    files = {"reproduce": reproduce}
    assert "p.other:*" in closure(tmp_path, **files, other="def f():\n    return 1\n\ndef unused():\n    return 1\n")
    one, two = (
        mark(tmp_path, **files, other=f"def f():\n    return 1\n\ndef unused():\n    return {n}\n") for n in "12"
    )
    assert one != two


def test_modules_that_need_each_other_end(tmp_path: Path):
    reproduce = "from p.a import f\n\ndef claim(run):\n    return f()\n"
    found = closure(tmp_path, reproduce=reproduce, a="from p.b import g\n\ndef f():\n    return g()\n",
                    b="from p.a import f\n\ndef g():\n    return f()\n")  # fmt: skip
    assert {"p.a:f", "p.b:g"} <= set(found)
