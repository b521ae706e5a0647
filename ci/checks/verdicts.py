"""Exact claims, recomputed, give the recorded verdicts; trend results are fresh; tables and figures are of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from checks.common import Member, packages, run, tail

RECOMPUTE = "import sys; from papertest.reproduce import run; run(sys.argv.pop(1))"
HOLD = """
import sys
from pathlib import Path
from papertest import check
from papertest.package import Package
print("\\n".join(check.problems(Package.at(Path(sys.argv[1])))), end="")
"""


def check(root: Path) -> list[str]:
    return [f"{member.slug}: {problem}" for member in packages(root) for problem in [*exact(member), *kept(member)]]


def exact(member: Member) -> list[str]:
    """The exact claims whose verdict, recomputed here, is not the recorded one."""
    command = [sys.executable, "-c", RECOMPUTE, member.slug, "--tier", "exact", "--fresh", "--json"]
    done = run(command, member.home)
    if done.returncode not in (0, 1) or not done.stdout.startswith("["):
        return [f"its exact claims cannot be recomputed:{tail(done)}"]
    again = f"uv run --package {member.slug} reproduce"
    found = [
        f"{claim['id']} ({claim['where']}) is recorded as {claim['recorded_verdict'] or 'nothing'}, recomputed it is "
        f"{claim['verdict']} (measured {claim['measured']}, the paper {claim['reported']}): look at what changed; "
        f"if it is right so, run `{again} --only {claim['id']} --record` and say why in the write-up"
        for claim in json.loads(done.stdout)
        if claim["verdict"] != claim["recorded_verdict"]
    ]
    if done.returncode and not found:
        return [f"`{again} --tier exact --fresh` fails:{tail(done)}"]
    return found


def kept(member: Member) -> list[str]:
    """What papertest finds wrong with the recorded results, the generated tables and the figures."""
    done = run([sys.executable, "-c", HOLD, member.home / "src" / member.module], member.home)
    return done.stdout.splitlines() if not done.returncode else [f"its results cannot be read:{tail(done)}"]
