#!/usr/bin/env python3
"""Carry recorded samples over a change of papertest's fingerprints or of where code stands, by proof and not by trust.

python ci/restamp.py OLD [--seed FOLDER] [--write]

OLD: a clone of the repository at the commit whose results are to be kept
FOLDER: of states, one for each package, with seed 0 of trend claims measured by the code of today

For each claim of the tiers trend, speed and paper with samples: the definitions that it runs through, in OLD and here,
must be the same (name and normal form; the module does not matter, so that code may move; of a module that counted
whole, less may count now). Where that holds the old samples are written under the new fingerprint, judged by the record
of today; where it does not, each definition that differs is named and nothing is written for that claim. EQUAL names
the definitions that do differ in the text and cannot in what they compute where the samples were made, with the reason.
A trend claim is proved too where seed 0, measured by the code of today, has the recorded value to eleven digits (the
library's singular values differ in the last bits from run to run, and all else is the same to the last bit): a run goes
through thousands of steps, and what changed on its way changed nothing in them. Claims that need a GPU which is
not here have ON_GPU alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, cast

from papertest import files, fingerprint, measure, reproduce, store
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.screen import Terminal

EQUAL = {
    ("lora", "_ONEDNN"): "also asks whether torch has the private operator, and the recorded torch 2.15 has it",
    ("lora", "lora_linear"): "is replaced by the plain formula where torch lacks a private function, and it has it",
    ("rope", "_turn"): "differs in half precision alone, and each trend's quick run rotates float32 alone (counted)",
    ("rope", "_BLOCK"): "serves half precision alone, see `_turn`",
    ("rope", "_blocks"): "serves half precision alone, see `_turn`",
}
ON_GPU = {  # why the operations on the device are those of the recorded run
    "lora": "checks of arguments, and a name for the layer's own weight; a small GPT-2 trains to the same bits",
    "transformer": "checks of arguments, and casts to the dtype that was there; seed 0 of the trends is the same",
}
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Carry recorded samples over a change of fingerprints, by proof.")
    parser.add_argument("old", type=Path, help="a clone at the commit whose results are to be kept")
    parser.add_argument("--seed", type=Path, help="states with seed 0 of the trend claims, measured by today's code")
    parser.add_argument("--write", action="store_true", help="write the results that are proved")
    options = parser.parse_args()
    failed = 0
    for home in sorted((ROOT / "packages").iterdir()):
        code = Path("packages") / home.name / "src" / home.name.replace("-", "_")
        if (options.old / code).exists():
            failed += carry(Package.at(options.old.resolve() / code), Package.at(ROOT / code), options)
    return 1 if failed else 0


def carry(old: Package, new: Package, options: argparse.Namespace) -> int:
    """One package; the number of claims that are not proved."""
    before, after = Sources(old), Sources(new)
    unproved = 0
    for claim, entry in new.claims.items():
        path = old.checkout / "packages" / old.slug / "results" / f"{claim}.json" if old.checkout else Path()
        if entry.tier not in ("trend", "speed", "paper") or not path.exists():
            continue
        result = files.read_json(path)
        if not result["samples"]:
            continue
        equal = EQUAL if entry.tier != "speed" else {}  # a time has no proof but its code
        differ = difference(new.slug, defined(before, claim), defined(after, claim), equal)
        mark = fingerprint.of_claim(after, claim)
        why = None
        if differ and entry.tier == "paper":
            why = ON_GPU.get(new.slug)
        elif differ and entry.tier == "trend":
            why = same(new, claim, mark, result, options)
        if why is not None:
            print(f"✓ {new.slug} {claim}: {why}")
            differ = []
        else:
            print(f"{'✗' if differ else '✓'} {new.slug} {claim}" + "".join(f"\n    {each}" for each in differ))
        unproved += bool(differ)
        if options.write and not differ:
            samples = [kept(result, sample) for sample in result["samples"]]
            store.write_result(new, store.result(new, claim, samples, mark, {}))
    if options.write:
        terminal = Terminal()
        reproduce.rejudge(measure.Measurer(new, terminal), terminal)
    return unproved


def same(new: Package, claim: str, mark: str, result: dict[str, Any], options: argparse.Namespace) -> str | None:
    """What proves the claim, where seed 0 of today has the recorded value; None where it has not, or is not there."""
    if options.seed is None:
        return None
    sample = store.Store(options.seed / f"state-{new.slug}", print).sample(claim, 0, "cpu", quick=False)
    recorded = [each["value"] for each in result["samples"] if each["seed"] == 0]
    if sample is None or sample.fingerprint != mark or not recorded or not close(sample.value, recorded[0]):
        return None
    return "seed 0 of today is the recorded one" + (" to the last bit" if sample.value == recorded[0] else "")


def close(ours: Any, recorded: Any) -> bool:
    """Whether two values of a claim, numbers, lists or tables of them, are the same to eleven digits."""
    if isinstance(ours, dict):
        tables = cast(dict[str, Any], ours), cast(dict[str, Any], recorded)
        return tables[0].keys() == tables[1].keys() and all(close(tables[0][key], tables[1][key]) for key in tables[0])
    if isinstance(ours, list):
        rows = cast(list[Any], ours), cast(list[Any], recorded)
        return len(rows[0]) == len(rows[1]) and all(map(close, *rows))
    return math.isclose(ours, recorded, rel_tol=1e-11)


def defined(sources: Sources, claim: str) -> set[tuple[str, str]]:
    """(name, normal form) of every definition that a claim runs through, wherever it stands."""
    closure = sources.closure(*sources.claims[claim])
    return {(key.split(":")[1], json.dumps(form)) for key, forms in closure.items() for form in forms}


def difference(
    slug: str, old: set[tuple[str, str]], new: set[tuple[str, str]], equal: dict[tuple[str, str], str]
) -> list[str]:
    """What is run now and was not then; what is gone matters only where a definition of the same name came."""
    found: list[str] = []
    texts = {form for _, form in old}
    for name, form in sorted(new):
        if form not in texts and (slug, name) not in equal:
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
