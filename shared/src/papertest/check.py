"""What ci/ holds of a package without measuring: the record and its history, fresh fingerprints, verdicts that follow
from the samples, results that say what the record says, generated tables, figures drawn from the results."""

from __future__ import annotations

import re

from papertest import drawing, fingerprint, history, store, tables
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.records import COMPUTED
from papertest.store import Result


def problems(package: Package) -> list[str]:
    """Everything that is not as it should be, one line each, with what to do."""
    found: list[str] = []
    again = f"uv run --package {package.slug} reproduce"
    sources = Sources(package)
    results = store.recorded(package, found.append)
    damaged = len(found)
    for claim in package.claims:
        if claim not in sources.claims:
            found.append(f'[claims.{claim}] is measured nowhere: no @claim("{claim}") in {package.module}.reproduce')
        elif (result := results.get(claim)) is not None:
            found += of_result(package, sources, claim, results, result)
        elif not damaged:
            found.append(f"{claim} has no result: run `{again} --only {claim} --record`")
    unknown = set(sources.claims) - set(package.claims)
    found += [f'@claim("{claim}") has no [claims.{claim}] in {package.called()}' for claim in sorted(unknown)]
    if package.results is not None:
        kept = {path.stem for path in package.results.glob("*.json")}
        found += [f"results/{c}.json belongs to no claim: delete it" for c in sorted(kept - set(package.claims))]
    try:
        for path, text in tables.generated(package, results).items():
            if text != path.read_text("utf-8"):
                name = f"{path.parent.name}/{path.name}"
                found.append(f"the generated table in {name} is not of results/: run `{again} --record`")
    except tables.MarkerError as error:
        found.append(str(error))
    if package.checkout is not None and (package.checkout / ".git").exists():
        found += history.problems(package, {i: result.samples for i, result in results.items()})
    return found + _figures(package, sources, results)


def of_result(package: Package, sources: Sources, claim: str, results: dict[str, Result], result: Result) -> list[str]:
    """What is wrong with one recorded result."""
    entry = package.claims[claim]
    again = f"run `uv run --package {package.slug} reproduce --only {claim} --record`"
    found: list[str] = []
    stated, held = store.stated(package, claim), result.model_dump()
    if wrong := [key for key, value in stated.items() if held[key] != value]:
        found.append(f"{claim} was recorded with another {wrong[0]} than the record has: {again}")
    if not result.samples:
        return found
    if entry.tier not in COMPUTED and result.fingerprint != fingerprint.of_claim(sources, claim):
        found.append(f"{claim} was recorded with other code, record or data: {again} and look at its verdict")
    if len(result.samples) < entry.runs:
        found.append(f"{claim} has {len(result.samples)} of its {entry.runs} seeds: {again}")
    if len(result.samples) > entry.runs:
        found.append(f"{claim} has {len(result.samples)} seeds, and the record asks for {entry.runs}: {again}")
    verdicts = {i: other.verdict for i, other in results.items()}
    try:
        said = store.verdict(package, claim, result.kept, verdicts).verdict
    except ValueError as error:
        return [*found, f"{claim}: {error}: {again}"]
    if said != result.verdict:
        found.append(f"{claim} is recorded as {result.verdict}, but its own samples say {said}: {again}")
    return found


def _figures(package: Package, sources: Sources, results: dict[str, Result]) -> list[str]:
    """Figures that are named and missing, there and named nowhere, or drawn from something else than results/."""
    assert package.home is not None and package.figures is not None
    found: list[str] = []
    shown: set[str] = set()
    for name in ("README.md", "README.zh-CN.md"):
        path = package.home / name
        named = re.findall(r"\]\((figures/[^)\s]+)\)", path.read_text("utf-8")) if path.exists() else []
        shown |= {figure.removeprefix("figures/") for figure in named}
        found += [
            f"{name} shows {figure}, which is not there" for figure in named if not (package.home / figure).exists()
        ]
    again = f"run `uv run --package {package.slug} reproduce --record`"
    current = drawing.drawable(sources, results)
    for figure in sources.figures:
        path = package.figures / f"{figure}.png"
        if not path.exists():
            if figure in current:  # else its claims are still to be measured
                found.append(f"figures/{figure}.png is not there: {again}")
        elif f"{figure}.png" not in shown:
            found.append(f"figures/{figure}.png is shown in no README: show it, or delete its @figure")
        elif figure in current and drawing.drawn_from(path) != drawing.source(sources, figure, results):
            found.append(f"figures/{figure}.png is not drawn from results/ with the code of today: {again}")
    return found
