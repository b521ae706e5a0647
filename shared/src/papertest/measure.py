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
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from papertest import files, fingerprint, store
from papertest.claims import Measured, Run
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

    seed: the first seed (a trend claim takes the next ones too)
    device: "cpu" or "cuda" for every claim; None: each claim where it belongs
    quick: fewer steps and one seed, kept apart, never recorded
    """

    package: Package
    screen: Screen
    seed: int = 0
    device: str | None = None
    quick: bool = False
    store: Store = field(init=False)
    sources: Sources = field(init=False)
    fresh: bool = field(default=False, init=False)  # after `forget`: only the shared runs in `made` count
    made: set[str] = field(default_factory=set[str], init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.package, self.screen.say)
        self.sources = Sources(self.package)

    def device_of(self, claim: str) -> str:
        return self.device or self.package.record.claims[claim].needs or "cpu"

    def lacks(self, claim: str) -> str | None:
        """Why this machine cannot run the claim, None where it can."""
        needs = self.package.record.claims[claim].needs
        if needs is None:
            return None
        cost = self.package.record.claims[claim].cost
        if self.device_of(claim) != needs:
            return f"needs {needs.upper()}, and --device says {self.device}; costs {cost}"
        return None if has_cuda() else f"no CUDA device here; costs {cost}"

    def seeds(self, claim: str) -> list[int]:
        runs = 1 if self.quick else self.package.record.claims[claim].runs
        return list(range(self.seed, self.seed + runs))

    def kept(self, claim: str) -> list[Sample | None]:
        """The sample of each seed that is already there."""
        mark, device = fingerprint.of_claim(self.sources, claim), self.device_of(claim)
        return [self.store.sample(claim, seed, device, self.quick, mark) for seed in self.seeds(claim)]

    def forget(self, claim: str) -> None:
        self.fresh = True
        for sample in self.kept(claim):
            if sample is not None:
                self.store.drop(sample)

    def measure(self, claim: str) -> Result:
        """The claim's result, measuring what is missing. ClaimFailed where its code raises."""
        mark = fingerprint.of_claim(self.sources, claim)
        if (why := self.lacks(claim)) is not None:
            return store.not_run(self.package, claim, why, mark)
        samples = [
            sample or self._sample(claim, seed, mark)
            for seed, sample in zip(self.seeds(claim), self.kept(claim), strict=True)
        ]
        try:
            return store.result(self.package, claim, samples)
        except ValueError as error:
            raise ClaimFailed(f"{claim}: {error}") from None

    def _sample(self, claim: str, seed: int, mark: str) -> Sample:
        device = self.device_of(claim)
        with self.alone():
            kept = self.store.sample(claim, seed, device, self.quick, mark)  # another run may have made it meanwhile
            if kept is not None:
                return kept
            sample = self._run(claim, seed, device, mark)
            self.store.keep(sample)
            return sample

    def _run(self, claim: str, seed: int, device: str, mark: str) -> Sample:
        shared: list[str] = []
        reports = self.package.record.claims[claim].reports
        reported = {i: self.package.record.reported[i] for i in reports}
        run = Run(seed, device, self.quick, reported, self.screen.track, self._sharing(shared))
        try:
            function = self.sources.function(claim)
            seed_all(seed)
            start = time.perf_counter()
            measured = function(run)
            seconds = time.perf_counter() - start
            if not isinstance(measured, Measured):
                measured = Measured(measured)
            value, details = files.finite([measured.value, measured.details])  # now as it will be read again
            files.checksum([value, details])  # TypeError where it is not JSON, such as an array
        except Exception as error:
            log = self.package.state / "errors" / f"{claim}.txt"
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
            details=details,
            seconds=round(seconds, 3),
            machine=machine(device),
            versions=versions(),
            shared=shared,
        )

    def _sharing(self, used: list[str]) -> Callable[[Run, Callable[..., Any], tuple[Any, ...]], Any]:
        def share(run: Run, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            setting = f"{args!r} {run.seed} {run.device} {run.quick}"
            key = fingerprint.of_code(self.sources, function.__module__, function.__name__, setting)
            used.append(key)
            kept = None if self.fresh and key not in self.made else self.store.shared(key)
            if kept is None:
                seed_all(run.seed)
                kept = [files.finite(function(run, *args))]
                self.store.keep_shared(key, kept[0])
                self.made.add(key)
            seed_all(run.seed)  # what follows draws the same numbers whether the run was kept or made
            return kept[0]

        return share

    @contextmanager
    def alone(self) -> Generator[None]:
        """One measurement at a time in a checkout: two at once would disturb each other's times."""
        self.package.state.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.package.state / "lock")
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


def versions() -> dict[str, str]:
    """The versions that a number may depend on."""
    found = {"python": platform.python_version(), "system": platform.system()}
    for name in ("torch", "triton", "jax", "numpy", "transformers"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
