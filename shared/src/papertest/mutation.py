"""Mutations: break the implementation on purpose, and see the verdict turn.

bench = Mutations(__file__)  # of the package that the test's file belongs to

def test_a_mistake_turns_the_verdict(monkeypatch):
    assert bench.verdict("causal") == "reproduced"
    put(attention, "causal_mask", one_ahead)(monkeypatch)
    assert bench.verdict("causal") == "not reproduced"
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from papertest import files
from papertest.accept import judge
from papertest.claims import Measured, Run, Timed, Unreported
from papertest.fingerprint import Sources
from papertest.measure import Silent, seed_all
from papertest.plugin import package_of
from papertest.records import Record, Reported

Share = Callable[[Run, Callable[..., Any], tuple[Any, ...]], Any]


class Patcher(Protocol):
    """What is used of pytest's monkeypatch."""

    def setattr(self, target: Any, name: str, value: Any, /) -> None: ...


def put(target: Any, name: str, value: Any) -> Callable[[Patcher], None]:
    """The mistake that `value` stands where `target.name` was; it takes pytest's monkeypatch."""
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


class Mutations:
    """Measures and judges claims of one package in this process, as `reproduce` does, without keeping anything."""

    def __init__(self, file: str | Path) -> None:
        """`file`: the test's own file."""
        self.package = package_of(Path(file))
        self.sources = Sources(self.package)

    @property
    def record(self) -> Record:
        """The record of a package with one paper."""
        return self.package.record

    def tier(self, *tiers: str) -> list[str]:
        """The claims of these tiers, in the records' order."""
        return [i for i, claim in self.package.claims.items() if claim.tier in tiers]

    def transcribed(self, name: str, value: Any = None, *, columns: Any = None, **rows: Any) -> dict[str, Reported]:
        """`reported` for a misread paper: [reported.<name>] with another value or columns, or some rows replaced.

        `name` is the id, and `alibi/<id>` where several records of the package have it.
        """
        paper, _, name = name.rpartition("/")
        entries = [r.reported[name] for i, r in self.package.papers.items() if name in r.reported and paper in ("", i)]
        if len(entries) != 1:
            raise ValueError(f"{len(entries)} of the records {', '.join(self.package.papers)} have a [reported.{name}]"
                             f"{f' and are called {paper}' * bool(paper)}: name one that is there")  # fmt: skip
        entry = entries[0]
        changed: dict[str, Any] = {} if columns is None else {"columns": columns}
        if rows:
            assert isinstance(entry.value, dict)
            if unknown := set(rows) - set(entry.value):
                raise ValueError(f"[reported.{name}] has no row {min(unknown)!r}; there are: {', '.join(entry.value)}")
            changed["value"] = entry.value | rows
        elif value is not None:
            changed["value"] = value
        return {name: entry.model_copy(update=changed)}

    def measure(
        self,
        claim: str,
        *,
        seed: int = 0,
        quick: bool = False,
        reported: Mapping[str, Reported] | None = None,
        share: Share | None = None,
    ) -> Measured | Timed:
        """One measurement on the CPU.

        quick: as with `--quick`
        reported: entries that stand in for those of the record
        share: what `run.shared` does, in place of running the function from the seed; its run has no `reported`
        """
        stated = self.package.record_of(claim).reported
        entries = {i: stated[i] for i in self.package.claims[claim].reports} | dict(reported or {})
        sharing = share or _from_the_seed

        def shared(run: Run, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            return sharing(replace(run, reported=Unreported()), function, args)

        function = self.sources.function(claim)  # imports its module, which may draw random numbers
        seed_all(seed)
        measured = function(Run(seed, "cpu", quick, entries, Silent().track, shared))
        return measured if isinstance(measured, Measured | Timed) else Measured(measured)

    def verdict(
        self,
        claim: str,
        *,
        seed: int = 0,
        quick: bool = False,
        reported: Mapping[str, Reported] | None = None,
        share: Share | None = None,
    ) -> Literal["reproduced", "not reproduced", "undecided"]:
        """The verdict of one measurement; its controls are taken to hold, and the machine to be quiet.

        Criteria that compare with the paper compare with `reported` where that has what they compare with.
        """
        measured = self.measure(claim, seed=seed, quick=quick, reported=reported, share=share)
        record = self.package.record_of(claim)
        entry = record.claims[claim]
        misread = record.model_copy(update={"reported": record.reported | dict(reported or {})})
        samples = measured.rounds if isinstance(measured, Timed) else [measured.value]
        return judge(entry.accept, misread.paper_value(claim), files.finite(list(samples)), entry.scales).verdict

    def turning(
        self,
        claims: Collection[str],
        mistakes: Mapping[str, Callable[[Patcher], None]],
        misread: Mapping[str, Callable[[], Mapping[str, Reported]]],
        not_reproduced: Collection[str] = (),
    ) -> Callable[..., None]:
        """The test that the mistake, or the misread paper, of each claim turns its verdict; a module calls it `test_…`.

        not_reproduced: the claims whose verdict turns the other way
        """

        @pytest.mark.parametrize("claim", claims)
        def test(claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
            before, after = "reproduced", "not reproduced"
            if claim in not_reproduced:
                before, after = after, before
            assert self.verdict(claim) == before
            if claim in mistakes:
                mistakes[claim](monkeypatch)
            assert self.verdict(claim, reported=misread[claim]() if claim in misread else None) == after

        return test

    def turning_besides(self, mistakes: Mapping[str, tuple[str, Callable[[Patcher], None]]]) -> Callable[..., None]:
        """The test that each further mistake, a claim and what is done, turns the claim's verdict."""

        @pytest.mark.parametrize("mistake", mistakes)
        def test(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
            claim, apply = mistakes[mistake]
            apply(monkeypatch)
            assert self.verdict(claim) == "not reproduced"

        return test


def _from_the_seed(run: Run, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    seed_all(run.seed)
    value = files.finite(function(run, *args))
    seed_all(run.seed)
    return value


class Clock:
    """Stands in for the wall clock: `monkeypatch.setattr(bench, "seconds", clock.seconds)`.

    Only `spend` moves it, which is what the functions call that are timed.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def spend(self, seconds: float) -> None:
        self.now += seconds

    def seconds(self, function: Callable[[], Any], device: str = "cpu") -> float:
        del device
        start = self.now
        function()
        return self.now - start


class _Priced(TorchDispatchMode):
    """Adds up the price of what each of torch's operators gives."""

    def __init__(self, price: Callable[[Any], int]) -> None:
        super().__init__()
        self.price, self.total = price, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += self.price(result)
        return result


def operators(function: Callable[[], Any], device: str = "cpu") -> int:
    """In the place of `bench.seconds`: a machine that does nothing but wait for torch's next operator."""
    del device
    with _Priced(lambda result: 1) as counted:
        function()
    return counted.total


def elements(function: Callable[[], Any], device: str = "cpu") -> int:
    """In the place of `bench.seconds`: a machine whose time is the elements of all tensors that operators give."""
    del device
    with _Priced(lambda result: sum(x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor))) as counted:
        function()
    return counted.total
