#!/usr/bin/env python3
"""Carry recorded samples over a change of papertest's fingerprints or of where code stands, by proof and not by trust.

python ci/restamp.py OLD [--write]        OLD: a clone of the repository at the commit whose results are to be kept

For each claim of the tiers trend and paper with samples: the definitions that it runs through, in OLD and here, must be
the same (name and normal form; the module does not matter, so that code may move; of a module that counted whole, less
may count now). Where that holds the old samples are written under the new fingerprint, judged by the record of today;
where it does not, each definition that differs is named and nothing is written for that claim. EQUAL names the
definitions that do differ in the text and cannot in what they compute where the samples were made, with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from papertest import files, fingerprint, measure, reproduce, store
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.screen import Terminal

EQUAL = {
    ("lora", "_ONEDNN"): "also asks whether torch has the private operator, and the recorded torch 2.15 has it",
    ("lora", "lora_linear"): "is replaced by the plain formula where torch lacks a private function, and it has it",
}
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Carry recorded samples over a change of fingerprints, by proof.")
    parser.add_argument("old", type=Path, help="a clone at the commit whose results are to be kept")
    parser.add_argument("--write", action="store_true", help="write the results that are proved")
    options = parser.parse_args()
    failed = 0
    for home in sorted((ROOT / "packages").iterdir()):
        code = Path("packages") / home.name / "src" / home.name.replace("-", "_")
        if (options.old / code).exists():
            failed += carry(Package.at(options.old.resolve() / code), Package.at(ROOT / code), options.write)
    return 1 if failed else 0


def carry(old: Package, new: Package, write: bool) -> int:
    """One package; the number of claims that are not proved."""
    before, after = Sources(old), Sources(new)
    unproved = 0
    for claim, entry in new.claims.items():
        path = old.checkout / "packages" / old.slug / "results" / f"{claim}.json" if old.checkout else Path()
        if entry.tier not in ("trend", "paper") or not path.exists():
            continue
        result = files.read_json(path)
        if not result["samples"]:
            continue
        differ = difference(new.slug, defined(before, claim), defined(after, claim))
        print(f"{'✗' if differ else '✓'} {new.slug} {claim}" + "".join(f"\n    {each}" for each in differ))
        unproved += bool(differ)
        if write and not differ:
            mark = fingerprint.of_claim(after, claim)
            samples = [kept(result, sample) for sample in result["samples"]]
            store.write_result(new, store.result(new, claim, samples, mark, {}))
    if write:
        terminal = Terminal()
        reproduce.rejudge(measure.Measurer(new, terminal), terminal)
    return unproved


def defined(sources: Sources, claim: str) -> set[tuple[str, str]]:
    """(name, normal form) of every definition that a claim runs through, wherever it stands."""
    closure = sources.closure(*sources.claims[claim])
    return {(key.split(":")[1], json.dumps(form)) for key, forms in closure.items() for form in forms}


def difference(slug: str, old: set[tuple[str, str]], new: set[tuple[str, str]]) -> list[str]:
    """What is run now and was not then; what is gone matters only where a definition of the same name came."""
    found: list[str] = []
    texts = {form for _, form in old}
    for name, form in sorted(new):
        if form not in texts and (slug, name) not in EQUAL:
            found.append(f"{name} {'differs' if any(name == other for other, _ in old) else 'is new'}: {form[:300]}")
    return found


def kept(result: dict[str, Any], sample: dict[str, Any]) -> store.Kept:
    """A sample; the first version's results told machine and versions once for all of them."""
    if "machine" in result:
        told = {"device": "cuda" if result["tier"] == "paper" else "cpu", "machine": result["machine"]}
        sample = {**told, "versions": result["versions"], "shared": {}, **sample}
    return store.Kept.model_validate(sample)


if __name__ == "__main__":
    sys.exit(main())
