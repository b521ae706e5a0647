"""A toy checkout with one paper, whose claims keep a log of what they measure and can be killed at a given point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from papertest.package import Package
from papertest.records import Record

RECORD = """
[paper]
title = "A Toy"
authors = ["A. Author"]
year = 2020
arxiv = "2001.00001"
bibtex = "@misc{toy}"

[reported.answer]
where = "Table 1"
what = "The answer."
what_zh = "答案。"
value = 42
unit = "1"
setting = "none"

[reported.pair]
where = "Table 2"
what = "A pair."
what_zh = "一对。"
value = { a = 1.5, b = 2 }
unit = "ms"
setting = "none"

[reported.curve]
where = "Figure 1"
what = "A curve."
what_zh = "曲线。"
value = [3, 2, 1]
columns = [10, 20, 30]
unit = "1"
setting = "none"

[reported.parts]
where = "Section 5.1"
what = "The parts of the answer."
what_zh = "答案的各部分。"
value = { x = 20, y = 22 }
unit = "1"
setting = "none"

[reported.times]
where = "Table 4"
what = "Times."
what_zh = "时间。"
value = { ours = 10, theirs = 15 }
unit = "ms"
setting = "none"

[claims.answer]
title = "The answer is 42"
title_zh = "答案是 42"
what = "The answer is 42."
what_zh = "答案是 42。"
reports = ["answer"]
tier = "exact"
unit = "1"
accept = { equals = true }
why = "It is stated."
why_zh = "论文给出。"

[claims.pair]
title = "The pair"
title_zh = "一对数"
what = "The pair."
what_zh = "一对。"
reports = ["pair"]
tier = "exact"
unit = "ms"
accept = { a = { digits = 1 }, b = { within = 0.1 } }
why = "It is stated."
why_zh = "论文给出。"

[claims.ours]
title = "Three gigabytes are enough"
title_zh = "三 GB 足够"
what = "It takes at most 4 GB."
what_zh = "内存不超过 4 GB。"
reports = ["answer"]
tier = "exact"
unit = "GB"
accept = { at_most = 4 }
why = "What a laptop has."
why_zh = "笔记本电脑的内存。"
by = "us"

[claims.sum]
title = "The parts are the answer"
title_zh = "各部分之和等于答案"
what = "x and y are 42 together."
what_zh = "x 与 y 之和为 42。"
reports = ["parts", "answer"]
tier = "printed"
unit = "1"
paper = "{answer}"
accept = { equals = true }
why = "It could be seen through when it was written."
why_zh = "写下判据时即可看出结果。"

[claims.curve]
title = "The curve falls"
title_zh = "曲线下降"
what = "The curve falls."
what_zh = "曲线下降。"
reports = ["curve"]
tier = "trend"
unit = "1"
paper = "{curve}"
accept = { decreasing = true }
why = "It is drawn so."
why_zh = "图中如此。"
controls = ["noise"]

[claims.noise]
title = "The noise is small"
title_zh = "噪声小"
what = "The noise is small."
what_zh = "噪声小。"
reports = ["answer", "curve"]
tier = "trend"
unit = "1"
accept = { at_most = 50 }
why = "It is said so."
why_zh = "文中如此。"

[claims.similar]
title = "Two runs are alike"
title_zh = "两次运行相似"
what = "Two runs are alike."
what_zh = "两次运行相似。"
reports = ["answer"]
tier = "trend"
unit = "1"
accept = { at_least = 0.5 }
scale = [0, 1]
why = "Half is alike."
why_zh = "过半即为相似。"

[claims.fast]
title = "Half as fast again as the peer"
title_zh = "速度是对照实现的 1.5 倍"
what = "It is half as fast again as the peer."
what_zh = "速度是对照实现的 1.5 倍。"
reports = ["times"]
tier = "speed"
unit = "ratio"
paper = { speed = "{times.theirs} / {times.ours}" }
accept = { speed = { at_least = 1.2 }, memory = { at_most = 2.5 } }
why = "A part of the paper's effect."
why_zh = "论文效应的一部分。"

[claims.large]
title = "The same at scale"
title_zh = "大规模时相同"
what = "The same at scale."
what_zh = "大规模。"
reports = ["answer"]
tier = "paper"
unit = "1"
accept = { at_least = 1 }
why = "It is stated."
why_zh = "论文给出。"
needs = "cuda"
cost = "0.5 GPU-hours"
"""

CLAIMS = """
from papertest.claims import Measured, Run, Timed, claim

from toy.helpers import double
from toy.hooks import event


@claim("answer")
def answer(run: Run) -> int:
    event("begin", f"answer {run.seed}")
    value = double(21)
    event("end", f"answer {run.seed}")
    return value


@claim("pair")
def pair(run: Run) -> dict[str, float]:
    event("begin", f"pair {run.seed}")
    value = {"a": 1.52, "b": 2.05}
    event("end", f"pair {run.seed}")
    return value


@claim("ours")
def ours(run: Run) -> float:
    event("begin", f"ours {run.seed}")
    event("end", f"ours {run.seed}")
    return 3.0


@claim("sum")
def total(run: Run) -> float:
    event("begin", f"sum {run.seed}")
    event("end", f"sum {run.seed}")
    return sum(run.reported["parts"].value.values())


def base(run: Run, height: float) -> float:
    event("begin", f"base {run.seed}")
    event("end", f"base {run.seed}")
    return height  # the same for every seed


@claim("curve")
def curve(run: Run) -> Measured:
    event("begin", f"curve {run.seed}")
    top = run.shared(base, 3.0)
    event("end", f"curve {run.seed}")
    return Measured([top, 2.0, 1.0], {"seed": run.seed})


@claim("noise")
def noise(run: Run) -> float:
    event("begin", f"noise {run.seed}")
    value = run.shared(base, 3.0) + 39
    event("end", f"noise {run.seed}")
    return value


@claim("similar")
def similar(run: Run) -> float:
    event("begin", f"similar {run.seed}")
    event("end", f"similar {run.seed}")
    return [0.9, 0.92, 0.96][run.seed % 3]


@claim("fast")
def fast(run: Run) -> Timed:
    event("begin", f"fast {run.seed}")
    rounds = [{"speed": 1.5 + i % 5 / 50, "memory": 2.0} for i in range(3 if run.quick else 15)]
    event("end", f"fast {run.seed}")
    return Timed(rounds, null=[1.0, 1.01, 0.99])


@claim("large")
def large(run: Run) -> float:
    event("begin", f"large {run.seed}")
    return 2.0
"""

HELPERS = '''
def double(x):
    """Twice x."""
    return inner(x) * 2


def inner(x):
    return x


def unrelated():
    return 1
'''

# TOY_POINT=<what>:<k>:<signal> sends the signal to its own process at the k-th such event: a measurement's begin or
# end, `half` (a temporary file holds half of its content), `replace` and `replaced` (before and after the rename).
HOOKS = """
import os
import signal
import time
from pathlib import Path

SEEN = {}
LOG = Path(os.environ["TOY_LOG"])


def reached(what):
    SEEN[what] = SEEN.get(what, 0) + 1
    point, at, sent = os.environ.get("TOY_POINT", "::").split(":")
    if point == what and SEEN[what] == int(at):
        os.kill(os.getpid(), signal.Signals[sent])


def event(what, name):
    with LOG.open("a") as log:
        log.write(f"{what} {name}\\n")
    reached(what)
    for _ in range(int(os.environ.get("TOY_YIELDS", "0"))):
        time.sleep(0.01)


def fsync(handle, real=os.fsync):
    size = os.fstat(handle).st_size
    if os.environ.get("TOY_POINT", "").startswith(f"half:{SEEN.get('half', 0) + 1}:"):
        os.ftruncate(handle, size // 2)
    reached("half")
    real(handle)


def replace(source, target, real=os.replace):
    reached("replace")
    real(source, target)
    reached("replaced")


os.fsync, os.replace = fsync, replace
"""

FIGURE = """
from papertest.claims import figure


@figure("curve", "curve")
def curve(results):
    from papertest import figures

    drawn, (axes,) = figures.panels(1)
    figures.measured(axes, [1, 2, 3], results["curve"].value, "ours", "ours")
    return drawn
"""


MARKED = """# Toy
<!-- papertest:table -->
<!-- papertest:end -->
## Errata
<!-- papertest:errata -->
<!-- papertest:end-errata -->
"""
MAIN = "from toy.reproduce import main; main()"

# A process that has imported what every run needs, and forks for each: a run takes a tenth of a second, not one.
NURSERY = """
import json, os, sys, traceback
import numpy, scipy.special, papertest.reproduce

sys.dont_write_bytecode = True
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path in enumerate([os.devnull, order["out"], order["err"]]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(order["cwd"])
        os.environ.update(order["env"])
        sys.path.insert(0, order["code"])
        sys.argv[1:] = order["args"]
        code = 0
        try:
            exec(os.environ.get("TOY_BEFORE", ""), {})
            exec(order["main"], {"__name__": "__main__"})
        except SystemExit as exit:
            code = exit.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Toy:
    """The toy checkout."""

    root: Path
    nursery: subprocess.Popen[str]

    @property
    def home(self) -> Path:
        return self.root / "packages" / "toy"

    @property
    def code(self) -> Path:
        return self.home / "src" / "toy"

    @property
    def claims(self) -> Path:
        return self.code / "reproduce" / "claims.py"

    @property
    def record(self) -> Path:
        return self.root / "papers" / "toy.toml"

    @property
    def results(self) -> Path:
        return self.home / "results"

    @property
    def state(self) -> Path:
        return self.root / ".papertest" / "toy"

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """What a run sees: the toy's code, no programs (so no GPU), and a wide terminal."""
        beside = self.root.parent
        path = os.pathsep.join([str(self.home / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
        fixed = {"PATH": str(beside / "no-programs"), "PYTHONPATH": path, "COLUMNS": "200"}
        return {**os.environ, **fixed, "TOY_LOG": str(beside / "log"), "PYTHONDONTWRITEBYTECODE": "1", **more}

    def run(self, *args: str, **env: str) -> Done:
        """`reproduce` with these arguments, in a process of its own, to its end.

        `TOY_BEFORE` is code that the process runs first: another machine, another version of a library.
        """
        streams = [str(self.root.parent / name) for name in ("out", "err")]
        order = {
            "cwd": str(self.root),
            "env": self.environment(env),
            "args": args,
            "main": MAIN,
            "code": str(self.home / "src"),
        }
        assert self.nursery.stdin is not None and self.nursery.stdout is not None
        print(json.dumps(order | dict(zip(("out", "err"), streams, strict=True))), file=self.nursery.stdin, flush=True)
        code = int(self.nursery.stdout.readline())
        return Done(code, *(Path(stream).read_text("utf-8") for stream in streams))

    def start(
        self, *args: str, under: tuple[str, ...] = (), main: str = MAIN, stdout: int = subprocess.PIPE, **env: str
    ) -> subprocess.Popen[str]:
        """The same in a Python of its own, and without waiting for its end; `under` is a command to start it with."""
        command = [*under, sys.executable, "-c", main, *args]
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment(env), stdout=stdout, stderr=subprocess.PIPE, text=True,
            encoding="utf-8",
        )  # fmt: skip

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Done:
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    def log(self, what: str = "begin") -> list[str]:
        """What was measured since the last look, in order."""
        path = self.root.parent / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} ")]

    def kept(self) -> dict[str, bytes]:
        """The samples that are kept, named as in the log."""
        found = {f"{p.parent.name} {p.stem.split('-')[1]}": p for p in self.state.glob("samples/*/seed-*.json")}
        return {name: path.read_bytes() for name, path in found.items()}

    def shared(self) -> int:
        """How many shared runs are kept."""
        return len(list(self.state.glob("runs/*.json")))

    def debris(self) -> list[Path]:
        """Temporary files that a killed process left anywhere in the checkout."""
        return sorted(self.root.rglob("*.part"))

    @staticmethod
    def edit(path: Path, old: str, new: str) -> None:
        text = path.read_text("utf-8")
        assert old in text, f"{path} holds no {old!r}"
        path.write_text(text.replace(old, new), "utf-8")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def build(root: Path, nursery: subprocess.Popen[str]) -> Toy:
    toy = Toy(root, nursery)
    write(root / "pyproject.toml", '[tool.uv.workspace]\nmembers = ["packages/*"]\n')
    write(toy.record, RECORD)
    write(toy.code / "__init__.py", "")
    write(toy.code / "helpers.py", HELPERS)
    write(toy.code / "hooks.py", HOOKS)
    write(toy.code / "reproduce" / "__init__.py", "from papertest.reproduce import run\n\n\ndef main(): run('toy')\n")
    write(toy.claims, CLAIMS)
    for name in ("README.md", "README.zh-CN.md"):
        write(toy.home / name, MARKED)
        write(root / name, "# All\n<!-- papertest:scoreboard -->\n<!-- papertest:end -->\n")
    for folder in ("figures", "results"):
        (toy.home / folder).mkdir()
    return toy


@pytest.fixture(scope="session")
def nursery() -> Iterator[subprocess.Popen[str]]:
    """The process that forks the runs."""
    pipe, env = subprocess.PIPE, {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    with subprocess.Popen([sys.executable, "-c", NURSERY], stdin=pipe, stdout=pipe, text=True, env=env) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def toy(tmp_path: Path, nursery: subprocess.Popen[str]) -> Toy:
    """A toy checkout in which nothing was measured yet."""
    return build(tmp_path / "checkout", nursery)


@pytest.fixture
def toy_with_figure(toy: Toy) -> Toy:
    """The toy checkout with a figure."""
    write(toy.code / "reproduce" / "drawn.py", FIGURE)
    return toy


@pytest.fixture(scope="session")
def recorded_toy(tmp_path_factory: pytest.TempPathFactory, nursery: subprocess.Popen[str]) -> Toy:
    """A toy checkout recorded by one undisturbed run; only to be read, or copied."""
    toy = build(tmp_path_factory.mktemp("recorded") / "checkout", nursery)
    assert toy.run("--record").code == 0
    return toy


@pytest.fixture(scope="session")
def our_records() -> dict[str, Record]:
    """The records of this repository by name, each read together with the others of its package."""
    homes = sorted((Path(__file__).parents[2] / "packages").iterdir())
    packages = [Package.at(home / "src" / home.name.replace("-", "_")) for home in homes if (home / "src").exists()]
    return {name: record for package in packages for name, record in package.papers.items()}
