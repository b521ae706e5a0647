"""What ci/ holds of a package without measuring: fresh fingerprints, verdicts, generated tables, figures."""

from __future__ import annotations

import re

from papertest import fingerprint, store, tables
from papertest.fingerprint import Sources
from papertest.package import Package


def problems(package: Package) -> list[str]:
    """Everything that is not as it should be, one line each, with what to do."""
    found: list[str] = []
    again = f"uv run --package {package.slug} reproduce"
    sources = Sources(package)
    results = store.recorded(package, found.append)
    damaged = len(found)
    for claim, entry in package.record.claims.items():
        if claim not in sources.claims:
            found.append(f'[claims.{claim}] is measured nowhere: no @claim("{claim}") in {package.module}.reproduce')
            continue
        result = results.get(claim)
        if result is None:
            if not damaged:
                found.append(f"{claim} has no result: run `{again} --only {claim} --record`")
            continue
        if entry.tier != "exact" and result.fingerprint != fingerprint.of_claim(sources, claim):
            found.append(f"{claim} was recorded with other code, record or data: "
                         f"run `{again} --only {claim} --record` and look at its verdict")  # fmt: skip
        if result.samples and (verdict := rejudged(package, claim, result)) != result.verdict:
            found.append(f"{claim} is recorded as {result.verdict}, but its own samples say {verdict}")
    unknown = set(sources.claims) - set(package.record.claims)
    found += [f'@claim("{claim}") has no [claims.{claim}] in papers/{package.slug}.toml' for claim in sorted(unknown)]
    if package.results is not None:
        kept = {path.stem for path in package.results.glob("*.json")}
        found += [f"results/{c}.json belongs to no claim: delete it" for c in sorted(kept - set(package.record.claims))]
    try:
        for path, text in tables.generated(package, results).items():
            if text != path.read_text("utf-8"):
                name = f"{path.parent.name}/{path.name}"
                found.append(f"the generated table in {name} is not of results/: run `{again} --record`")
    except tables.MarkerError as error:
        found.append(str(error))
    return found + _figures(package, sources)


def rejudged(package: Package, claim: str, result: store.Result) -> str:
    """The verdict that a result's own samples give under the record's criterion."""
    from papertest.accept import judge

    entry = package.record.claims[claim]
    values = [sample["value"] for sample in result.samples]
    return judge(entry.accept, package.record.reported_value(claim), values).verdict


def _figures(package: Package, sources: Sources) -> list[str]:
    """Figures that are named and missing, or there and named nowhere."""
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
    for figure in sources.figures:
        if not (package.figures / f"{figure}.png").exists():
            found.append(f"figures/{figure}.png is not there: run `uv run --package {package.slug} reproduce --record`")
        elif f"{figure}.png" not in shown:
            found.append(f"figures/{figure}.png is shown in no README: show it, or delete its @figure")
    return found
