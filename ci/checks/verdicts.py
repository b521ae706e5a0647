"""Exact and printed claims, recomputed, give the recorded verdicts and numbers; all else follows from the results.

A recomputed number is the recorded one where the two are nearer than half a unit of its fourth significant digit, which
is what tables print, or than 1e-12, which is rounding around zero. A part whose criterion is an error's bound, a
thousandth or less on either side of zero, is compared by its verdict alone: what float32 leaves of a difference, 1e-7
beside a bound of 1e-5, is another number on another processor, and no number that anybody reads. So is a part that the
record names under `rounding`, such as one error over another.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, cast

from checks.common import Member, packages, run, tail

RECOMPUTE = """
import json, sys, tempfile
from pathlib import Path
from papertest import files, store
from papertest.measure import ClaimFailed, Measurer, Silent
from papertest.package import Package
from papertest.records import COMPUTED

package = Package.at(Path(sys.argv[1]))


def error(bounds):
    low, high = bounds
    return 0 <= high <= 1e-3 and (low == -float("inf") or low >= -1e-3)


known = store.recorded(package, lambda _: None)  # what cannot be read is told by HOLD
found = {}
with tempfile.TemporaryDirectory() as state:  # so that the reader's own samples are neither used nor changed
    measurer = Measurer(package, Silent(), state=Path(state))
    for claim, entry in package.claims.items():
        measured = claim in known and known[claim].samples
        if entry.tier in COMPUTED and measured and claim in measurer.sources.claims:
            try:
                result = measurer.measure(claim, {})
            except ClaimFailed as failure:
                found[claim] = {"failure": str(failure).split(" (traceback")[0]}
                continue
            small = [name for name, rows in result.bounds.items() if all(map(error, rows))]
            found[claim] = {
                "where": result.where,
                "verdict": result.verdict,
                "recorded_verdict": known[claim].verdict,
                "value": result.value,
                "recorded_value": known[claim].value,
                "errors": [*small, *entry.rounding],
            }
print(json.dumps(files.finite(found)))
"""
HOLD = """
import sys
from pathlib import Path
from papertest import check
from papertest.package import Package
print("\\n".join(check.problems(Package.at(Path(sys.argv[1])))), end="")
"""
ROUNDING = 1e-12


def check(root: Path) -> list[str]:
    return [f"{member.slug}: {problem}" for member in packages(root) for problem in problems(member)]


def problems(member: Member, python: str | Path = sys.executable) -> list[str]:
    """What is wrong with a package; `python` is that of an environment in which it is installed."""
    return [*computed(member, python), *kept(member, python)]


def computed(member: Member, python: str | Path = sys.executable) -> list[str]:
    """The exact and printed claims whose verdict or numbers, recomputed here, are not the recorded ones."""
    done = run([python, "-c", RECOMPUTE, member.home / "src" / member.module], member.home)
    if done.returncode or not done.stdout.startswith("{"):
        return [f"its exact claims cannot be recomputed:{tail(done)}"]
    found: list[str] = []
    for claim, now in json.loads(done.stdout).items():
        again = f"uv run --package {member.slug} reproduce --only {claim}"
        right = f"look at what changed; if it is right so, run `{again} --record` and say why in the write-up"
        if "failure" in now:
            found.append(f"{now['failure']}: run `{again} --fresh` for the traceback")
        elif now["verdict"] != now["recorded_verdict"]:
            found.append(
                f"{claim} ({now['where']}) is recorded as {now['recorded_verdict']}, recomputed it is "
                f"{now['verdict']} (recorded {now['recorded_value']}, now {now['value']}): {right}"
            )
        elif (changed := difference(now["recorded_value"], now["value"], now["errors"])) is not None:
            found.append(f"{claim} ({now['where']}) is recorded with another value, {changed}: {right}")
    return found


def difference(recorded: Any, now: Any, errors: list[str]) -> str | None:
    """The first number that is not the recorded one, in words; None where all are.

    errors: the parts that are compared by verdict alone; "" stands for all of them
    """
    old, new = numbers(recorded), numbers(now)
    if old.keys() != new.keys():
        return f"{recorded} and now {now}"
    for (part, at), a in old.items():
        if part not in errors and "" not in errors and not same(a, b := new[part, at]):
            return f"{f'{part} ' * bool(part)}{a} and now {b}"
    return None


def numbers(value: Any) -> dict[tuple[str, int], float | None]:
    """Every number of a value by its part and its place in it."""
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {"": value}
    rows = {part: cast("list[Any]", x) if isinstance(x, list) else [x] for part, x in table.items()}
    return {(part, at): x for part, row in rows.items() for at, x in enumerate(row)}


def same(recorded: float | None, now: float | None) -> bool:
    """Whether two numbers agree to four significant digits of the recorded one; None is no finite number."""
    if recorded is None or now is None:
        return recorded is now
    half = 0.5 * 10.0 ** (math.floor(math.log10(abs(recorded))) - 3) if recorded else 0.0
    return abs(now - recorded) <= max(half, ROUNDING)


def kept(member: Member, python: str | Path = sys.executable) -> list[str]:
    """What papertest finds wrong with the record's history, the recorded results, the tables and the figures."""
    done = run([python, "-c", HOLD, member.home / "src" / member.module], member.home)
    return done.stdout.splitlines() if not done.returncode else [f"its results cannot be read:{tail(done)}"]
