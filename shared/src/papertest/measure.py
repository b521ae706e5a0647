"""Measuring: every claim once per seed, kept as soon as it is known, one measurement at a time in a checkout."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from papertest import files, fingerprint, store
from papertest.claims import Measured, Run, Timed, Unreported
from papertest.fingerprint import Sources
from papertest.package import Package
from papertest.store import Result, Sample, Store


class Screen(Protocol):
    """Where progress and messages go."""

    def say(self, message: str) -> None: ...
    def track(self, items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]: ...


class Silent:
    """A screen that shows nothing."""

    def say(self, message: str) -> None:
        del message

    def track(self, items: Iterable[Any], total: int | None, what: str) -> Iterator[Any]:
        del total, what
        return iter(items)


class ClaimFailed(RuntimeError):
    """A claim's code raised; the message is one line."""


@dataclass
class Measurer:
    """Measures claims of one package, with what is kept taken from the store.

    seed: the first seed (a claim with several takes the next ones too)
    device: "cpu" or "cuda" for every claim; None: each claim where it belongs
    quick: fewer steps and one seed, kept apart, never recorded
    committed: recorded results whose samples count as kept where they are still valid (for `--record`)
    state: where samples are kept; by default the reader's own
    """

    package: Package
    screen: Screen
    seed: int = 0
    device: str | None = None
    quick: bool = False
    committed: dict[str, Result] = field(default_factory=dict[str, Result])
    state: Path | None = None
    store: Store = field(init=False)
    sources: Sources = field(init=False)
    fresh: bool = field(default=False, init=False)  # after `forget`: only the shared runs in `made` count
    made: set[str] = field(default_factory=set[str], init=False)
    _nested: float = field(default=0.0, init=False)  # seconds of shared runs inside of what is being timed

    def __post_init__(self) -> None:
        self.store = Store(self.state or self.package.state, self.screen.say)
        self.sources = Sources(self.package)

    def device_of(self, claim: str) -> str:
        return self.device or self.package.claims[claim].needs or "cpu"

    def lacks(self, claim: str) -> str | None:
        """Why this machine cannot run the claim, None where it can."""
        needs = self.package.claims[claim].needs
        if needs is None:
            return None
        cost = self.package.claims[claim].cost
        if self.device_of(claim) != needs:
            return f"needs {needs.upper()}, and --device says {self.device}; costs {cost}"
        return None if has_cuda() else f"no CUDA device here; costs {cost}"

    def seeds(self, claim: str) -> list[int]:
        runs = 1 if self.quick else self.package.claims[claim].runs
        return list(range(self.seed, self.seed + runs))

    def kept(self, claim: str, seed: int) -> Sample | None:
        """The sample of a seed that is there and may be used: the same code, record, data, device and libraries.

        Says why where one is there and may not. A time counts on the machine alone where it was measured.
        """
        mark, device = fingerprint.of_claim(self.sources, claim), self.device_of(claim)
        sample, why = self.store.sample(claim, seed, device, self.quick), None
        if sample is not None and (why := self._stale(sample, mark)) is None:
            return sample
        if (known := self._committed(claim, seed, device)) is not None:
            if (reason := self._stale(known, mark)) is None:
                return known
            why = f"the recorded one: {reason}" if sample is None else why
        elif sample is None:
            return None
        self.store.warn(f"{claim} is measured again: {why}")
        return None

    def _committed(self, claim: str, seed: int, device: str) -> Sample | None:
        result = self.committed.get(claim)
        if result is None or self.quick or self.fresh:
            return None
        found = [kept for kept in result.kept if (kept.seed, kept.device) == (seed, device)]
        head: dict[str, Any] = {"claim": claim, "quick": False, "fingerprint": result.fingerprint}
        return Sample(**head, **found[0].model_dump()) if found else None

    def _stale(self, sample: Sample, mark: str) -> str | None:
        """Why a sample may not be used, None where it may."""
        if sample.fingerprint != mark:
            return "its code, record or data have changed"
        here = versions()
        for library in store.LIBRARIES:
            if sample.versions.get(library) != here.get(library):
                return (
                    f"{library} was {sample.versions.get(library, 'not there')}, and is {here.get(library, 'not')} here"
                )
        timed = self.package.claims[sample.claim].tier == "speed"
        if timed and sample.machine != (machine_here := machine(sample.device)):
            return f"a time counts on its own machine, {sample.machine}, and this is {machine_here}"
        return None

    def forget(self, claim: str) -> None:
        self.fresh = True
        for seed in self.seeds(claim):
            sample = self.store.sample(claim, seed, self.device_of(claim), self.quick)
            if sample is not None:
                self.store.drop(sample)

    def measure(
        self, claim: str, verdicts: Mapping[str, str], seeds: list[int] | None = None,
        after: Callable[[Result], None] | None = None,
    ) -> Result:  # fmt: skip
        """The claim's result, measuring what is missing. ClaimFailed where its code raises.

        verdicts: of the other claims, for its controls
        seeds: some of `self.seeds` in place of all
        after: is given the result so far after each sample that was measured
        """
        mark = fingerprint.of_claim(self.sources, claim)
        if (why := self.lacks(claim)) is not None:
            return store.not_run(self.package, claim, why, mark)
        samples: list[Sample] = []
        seeds = self.seeds(claim) if seeds is None else seeds
        kept = {seed: self.kept(claim, seed) for seed in seeds}
        for seed in seeds:
            sample = kept[seed]
            if sample is None:
                samples.append(self._sample(claim, seed, mark))
                if after is not None:
                    others = [each for i, each in kept.items() if each is not None and i > seed]
                    after(self._result(claim, [*samples, *others], mark, verdicts))
            else:
                samples.append(sample)
        return self._result(claim, samples, mark, verdicts)

    def _result(self, claim: str, samples: list[Sample], mark: str, verdicts: Mapping[str, str]) -> Result:
        try:
            return store.result(self.package, claim, samples, mark, verdicts)
        except ValueError as error:
            raise ClaimFailed(f"{claim}: {error}") from None

    def _sample(self, claim: str, seed: int, mark: str) -> Sample:
        with self.alone():
            kept = self.kept(claim, seed)  # another run may have made it meanwhile
            if kept is not None:
                return kept
            sample = self._run(claim, seed, self.device_of(claim), mark)
            self.store.keep(sample)
            return sample

    def _run(self, claim: str, seed: int, device: str, mark: str) -> Sample:
        shared: dict[str, float] = {}
        entries = self.package.record_of(claim).reported
        reported = {i: entries[i] for i in self.package.claims[claim].reports}
        run = Run(seed, device, self.quick, reported, self.screen.track, self._sharing(shared))
        try:
            function = self.sources.function(claim)
            seed_all(seed)
            self._nested, start = 0.0, time.perf_counter()
            measured = function(run)
            seconds = time.perf_counter() - start - self._nested
            if isinstance(measured, Timed) != (self.package.claims[claim].tier == "speed"):
                raise TypeError("a claim of tier speed, and only such a one, gives papertest.Timed")
            value, rounds, null, details = self._values(measured)
            files.checksum([value, rounds, null, details])  # TypeError where it is not JSON, such as an array
        except Exception as error:
            log = (self.state or self.package.state) / "errors" / f"{claim}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), "utf-8")
            raise ClaimFailed(f"{claim}: {type(error).__name__}: {error} (traceback: {log})") from error
        return Sample(
            claim=claim,
            seed=seed,
            device=device,
            quick=self.quick,
            fingerprint=mark,
            value=value,
            rounds=rounds,
            null=null,
            details=details,
            seconds=round(max(0.0, seconds), 3),
            machine=machine(device),
            versions=versions(),
            shared=shared,
        )

    @staticmethod
    def _values(measured: Any) -> list[Any]:
        """Value, rounds, null comparison and details, as they will be read again."""
        if isinstance(measured, Timed):
            rounds, null = list(measured.rounds), list(measured.null)
            if not rounds or not null:
                raise ValueError("papertest.Timed needs rounds, and a null comparison")
            return files.finite([None, rounds, null, measured.details])
        if not isinstance(measured, Measured):
            measured = Measured(measured)
        return files.finite([measured.value, None, None, measured.details])

    def _sharing(self, used: dict[str, float]) -> Callable[[Run, Callable[..., Any], tuple[Any, ...]], Any]:
        def share(run: Run, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            here = {library: version for library, version in versions().items() if library in store.LIBRARIES}
            setting = f"{args!r} {run.seed} {run.device} {run.quick} {here}"
            key = fingerprint.of_code(self.sources, function.__module__, function.__name__, setting)
            kept = None if self.fresh and key not in self.made else self.store.shared(key)
            if kept is None:
                seed_all(run.seed)
                outer, start = self._nested, time.perf_counter()
                self._nested = 0.0
                value = files.finite(function(replace(run, reported=Unreported()), *args))
                elapsed = time.perf_counter() - start
                kept = value, round(elapsed - self._nested, 3)
                self._nested = outer + elapsed
                self.store.keep_shared(key, *kept)
                self.made.add(key)
            used[key] = kept[1]
            seed_all(run.seed)  # what follows draws the same numbers whether the run was kept or made
            return kept[0]

        return share

    @contextmanager
    def alone(self) -> Generator[None]:
        """One measurement at a time in a checkout, of whichever paper: two at once would disturb each other's times."""
        folder = self.state or self.package.states
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.screen.say("another `reproduce` is measuring in this checkout: waiting for its claim to finish")
            lock.acquire(poll_interval=0.2)
        try:
            yield
        finally:
            lock.release()


def seed_all(seed: int) -> None:
    """Seed Python, NumPy, and torch where the claim's module has imported it (it does so at its top)."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def has_cuda() -> bool:
    """Whether a CUDA device can be used; asks torch, whose import takes seconds, only where a driver is there."""
    if shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()


@cache
def machine(device: str) -> str:
    """The hardware in words: what a time was measured on."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


@cache
def versions() -> dict[str, str]:
    """The versions that a number may depend on."""
    found = {"python": platform.python_version(), "system": platform.system()}
    for name in ("torch", "triton", "jax", "numpy", "transformers"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
