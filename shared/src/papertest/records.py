"""Records: `papers/<name>.toml`, what a paper reports and what would count as reproducing it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from papertest import accept as acceptance
from papertest.accept import Scale, Value
from papertest.arithmetic import Computed, compute

Text = Annotated[str, Field(min_length=1)]
Chinese = Annotated[str, Field(min_length=1, pattern="[一-鿿]")]
Title = Annotated[str, Field(min_length=1, max_length=60)]
ChineseTitle = Annotated[str, Field(min_length=1, max_length=60, pattern="[一-鿿]")]
Tier = Literal["exact", "printed", "trend", "speed", "paper"]
TIERS: tuple[Tier, ...] = ("exact", "printed", "trend", "speed", "paper")
SEEDED = ("trend", "paper")  # measured once per seed
COMPUTED = ("exact", "printed")  # computed: never undecided, recomputed by ci/check


class RecordError(ValueError):
    """A record that cannot be used; the message is one line naming file, table and key."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Paper(_Table):
    """`[paper]`: the citation. A paper that is not on arXiv has a `url`."""

    title: Text
    authors: list[Text]
    year: int
    arxiv: Text | None = None
    bibtex: Text
    url: Text | None = None

    @model_validator(mode="after")
    def _found_somewhere(self) -> Paper:
        if self.arxiv is None and self.url is None:
            raise ValueError("needs `arxiv`, or `url` where the paper is not on arXiv")
        return self

    @property
    def link(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else str(self.url)


class Reported(_Table):
    """`[reported.<id>]`: one number, row or curve that the paper states; a transcription, never changed to fit."""

    where: Text
    where_zh: Chinese | None = None
    what: Text
    what_zh: Chinese
    value: Value
    unit: Text
    setting: Text
    columns: list[float | int | str] | None = None
    source: Text | None = None
    confidence: Text | None = None


class Claim(_Table):
    """`[claims.<id>]`: what we check, and the criterion that was fixed before the first measurement."""

    title: Title
    title_zh: ChineseTitle
    what: Text
    what_zh: Chinese
    reports: Annotated[list[Text], Field(min_length=1)]
    tier: Tier
    unit: Text | dict[str, Text]
    paper: Text | dict[str, Text] | None = None
    accept: Annotated[Any, AfterValidator(acceptance.parse)]
    scale: Any = None
    why: Text
    why_zh: Chinese
    seeds: Annotated[int, Field(ge=3)] | None = None
    controls: list[Text] = []
    needs: Literal["cuda"] | None = None
    cost: Text | None = None
    by: Literal["us"] | None = None
    rounding: list[Text] = []
    earlier: Text | None = None
    earlier_zh: Chinese | None = None

    @field_validator("scale", mode="before")
    @classmethod
    def _parsed_scale(cls, scale: Any) -> Any:
        return acceptance.parse_scale(scale)

    @field_validator("cost")
    @classmethod
    def _cost_in_gpu_hours(cls, cost: str | None) -> str | None:
        if cost is not None and not re.match(r"\d+(\.\d+)? GPU-hours", cost):
            raise ValueError(f"must begin with GPU-hours, such as '0.1 GPU-hours', not {cost!r}")
        return cost

    @model_validator(mode="after")
    def _fits_its_tier(self) -> Claim:
        accept: acceptance.Accept = self.accept
        if (self.tier == "paper") != (self.needs is not None and self.cost is not None):
            raise ValueError("a claim of tier `paper`, and only such a one, states `needs` and `cost`")
        if self.seeds is not None and self.tier not in SEEDED:
            raise ValueError(f"`seeds` is for the tiers {' and '.join(SEEDED)}, and this is {self.tier}")
        if self.controls and self.tier in COMPUTED:
            raise ValueError(f"`controls` is for what is measured; a claim of tier {self.tier} is never undecided")
        if self.rounding and self.tier not in COMPUTED:
            raise ValueError(f"`rounding` is for what is computed again, and this is {self.tier}")
        if self.rounding and not isinstance(accept, dict):
            raise ValueError("`rounding` names parts, and `accept` has none")
        if self.by == "us" and self.tier == "printed":
            raise ValueError('`by = "us"` is for what we measure, and a printed sum is the paper\'s')
        if (self.earlier is None) != (self.earlier_zh is None):
            raise ValueError("`earlier` and `earlier_zh` go together")
        if self.paper == {}:
            raise ValueError("`paper` is an empty table: leave it out where the paper states no such number")
        tables: list[tuple[str, Any]] = [("unit", self.unit), ("paper", self.paper), ("scale", self.scale),
                                         ("rounding", dict.fromkeys(self.rounding))]  # fmt: skip
        for key, table in tables:
            if (
                isinstance(table, dict)
                and isinstance(accept, dict)
                and (unknown := set(cast("dict[str, Any]", table)) - set(accept))
            ):
                raise ValueError(f"`{key}` has the part `{min(unknown)}`, which `accept` has not"
                                 f"{nearest(min(unknown), accept)}")  # fmt: skip
        return self

    @property
    def runs(self) -> int:
        """How many measurements it takes: one per seed, or one in all."""
        return (self.seeds or 3) if self.tier in SEEDED else 1

    @property
    def scales(self) -> dict[str, Scale]:
        """The scale of each part that has its own, and under "" that of the others."""
        usual: Scale = "log" if self.tier == "speed" else "linear"
        if self.scale is None:
            return {"": usual}
        return {"": usual, **self.scale} if isinstance(self.scale, dict) else {"": self.scale}

    @property
    def compares(self) -> bool:
        """Whether a criterion compares with the paper's value."""
        return any(c.kind in acceptance.COMPARES for c in _criteria(self.accept))


class Record(_Table):
    """A whole record."""

    paper: Paper
    reported: dict[str, Reported]
    claims: dict[str, Claim]

    def reported_value(self, claim: str) -> Value:
        """What the paper states on a claim: the one value that it reports, or a table of several by id."""
        ids = self.claims[claim].reports
        if len(ids) == 1:
            return self.reported[ids[0]].value
        table: dict[str, Any] = {}
        for i in ids:
            value = self.reported[i].value
            table |= {f"{i}: {k}": v for k, v in value.items()} if isinstance(value, dict) else {i: value}
        return table

    def paper_value(self, claim: str) -> Value | None:
        """The paper's own value of the measured quantity, in the measured shape; None where the paper has none."""
        computed = self.computed(claim)
        if isinstance(computed, dict):
            return cast("Value", {part: each.value for part, each in computed.items()})
        return computed.value if computed is not None else None

    def computed(self, claim: str) -> Computed | dict[str, Computed] | None:
        """The same with how each part comes about: 5.29 / 4.92."""
        entry = self.claims[claim]
        text = entry.paper
        if text is None:
            text = f"{{{entry.reports[0]}}}" if entry.compares else None
        if isinstance(text, dict):
            return {part: compute(each, self.reported) for part, each in text.items()}
        return compute(text, self.reported) if text is not None else None

    def where(self, claim: str) -> str:
        """The places in the paper, each once."""
        return "; ".join(dict.fromkeys(self.reported[i].where for i in self.claims[claim].reports))


def load(path: Path, name: str = "") -> Record:
    """Read and validate a record; RecordError names file, table and key in one line."""
    return together({name or f"papers/{path.name}": path})[0]


def together(files: Mapping[str, Path]) -> list[Record]:
    """The records of one package, in this order, from their files by the name that messages call them.

    Ids and titles of claims are unique over all of them, and a claim's controls may be those of another record.
    RecordError as in `load`; of what two records share it names both.
    """
    found = {name: _read(path, name) for name, path in files.items()}
    claims: dict[str, Claim] = {}
    owners: dict[str, str] = {}  # claim -> the name of its record
    titles: dict[str, str] = {}
    for name, record in found.items():
        for i, claim in record.claims.items():
            if i in owners:
                raise RecordError(f"{name}: [claims.{i}]: {owners[i]} has a claim of this id too, and one package "
                                  "has each id once")  # fmt: skip
            claims[i], owners[i] = claim, name
            for title in (claim.title, claim.title_zh):
                if title in titles:
                    other = titles[title]
                    of = "" if owners[other] == name else f" of {owners[other]}"
                    raise RecordError(f"{name}: [claims.{i}] title: [claims.{other}]{of} has the same")
                titles[title] = i
    for name, record in found.items():
        for i, claim in record.claims.items():
            if problem := _problem(record, i, claim) or _uncontrolled(claims, i):
                raise RecordError(f"{name}: [claims.{i}] {problem}")
    return list(found.values())


def _read(path: Path, name: str) -> Record:
    """One record, each of its tables right by itself."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{name}: there is no such record; `papers/` holds one .toml file per paper") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{name}: not TOML: {error}") from None
    try:
        record = Record.model_validate(raw)
    except ValidationError as error:
        raise RecordError(f"{name}: {_line(error)}") from None
    for table, ids in (("reported", record.reported), ("claims", record.claims)):
        for i in ids:
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", i):
                raise RecordError(f"{name}: [{table}.{i}]: an id is lower-case words joined by '-'")
    return record


def _problem(record: Record, i: str, claim: Claim) -> str | None:
    """What is wrong with a claim in its record: `key: what`."""
    for reported in claim.reports:
        if reported not in record.reported:
            return f"reports: there is no [reported.{reported}]{nearest(reported, record.reported)}"
    if claim.compares and claim.paper is None and len(claim.reports) > 1:
        return ("accept: a criterion that compares with the paper's value needs exactly one id in `reports`, "
                "or `paper`")  # fmt: skip
    try:
        value = record.paper_value(i)
    except ValueError as error:
        return f"paper: {error}"
    try:
        parts = set(acceptance.leaves(value)) if value is not None else set[str]()
    except ValueError as error:
        return f"paper: {error}"
    accept: acceptance.Accept = claim.accept
    if isinstance(accept, dict):
        if claim.paper is not None and (unknown := parts - set(accept)):
            return f"paper: has the part {min(unknown) or 'of a single number'!r}, which `accept` has not"
        lacking = [n for n, c in accept.items() if c.kind in acceptance.COMPARES and n not in parts]
        if lacking:
            return f"paper: lacks the part `{lacking[0]}`, which `accept` compares with it"
    return None


def _uncontrolled(claims: Mapping[str, Claim], i: str) -> str | None:
    """What is wrong with a claim's controls among the claims of its package: `controls: what`."""
    for control in claims[i].controls:
        if control not in claims:
            return f"controls: there is no [claims.{control}]{nearest(control, claims)}"
    todo, seen = list(claims[i].controls), set[str]()
    while todo:  # a claim that is its own control, directly or round a corner
        control = todo.pop()
        if control == i:
            return f"controls: `{i}` would be its own control"
        if control in claims and control not in seen:
            seen.add(control)
            todo += claims[control].controls
    return None


def _criteria(accept: acceptance.Accept) -> list[acceptance.Criterion]:
    return list(accept.values()) if isinstance(accept, dict) else [accept]


def nearest(word: str, known: Any) -> str:
    """ "; did you mean `x`?" for the nearest known word, or the list of all where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else f"; there are: {', '.join(known)}"


def _line(error: ValidationError) -> str:
    """The first complaint of pydantic, as `[table.id] key: what is wrong`."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    depth = 1 if path[:1] == ["paper"] else 2
    table, rest = f"[{'.'.join(path[:depth])}]", path[depth:]
    model = {"paper": Paper, "reported": Reported, "claims": Claim}.get(path[0], Record)
    if first["type"] == "extra_forbidden":
        known = model if rest else Record
        return f"{table} has the unknown key `{(rest or path)[0]}`{nearest((rest or path)[0], known.model_fields)}"
    if first["type"] == "missing":
        return f"{table} lacks the key `{(rest or path)[0]}`"
    key = f" {rest[0]}" if rest else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        message = f"must be in Chinese, not {first['input']!r}"
    return f"{table}{key}: {message}"
