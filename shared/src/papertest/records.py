"""Records: `papers/<slug>.toml`, what a paper reports and what would count as reproducing it."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from papertest import accept as acceptance
from papertest.accept import Value

Text = Annotated[str, Field(min_length=1)]
Tier = Literal["exact", "trend", "paper"]


class RecordError(ValueError):
    """A record that cannot be used; the message is one line naming file, table and key."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Paper(_Table):
    """`[paper]`: the citation."""

    title: Text
    authors: list[Text]
    year: int
    arxiv: Text
    bibtex: Text
    url: Text | None = None


class Reported(_Table):
    """`[reported.<id>]`: one number, row or curve that the paper states; a transcription, never changed to fit."""

    where: Text
    what: Text
    what_zh: Text
    value: Value
    unit: Text
    setting: Text
    columns: list[float | int | str] | None = None
    source: Text | None = None
    confidence: Text | None = None


class Claim(_Table):
    """`[claims.<id>]`: what we check, and the criterion that was fixed before the first measurement."""

    what: Text
    what_zh: Text
    reports: Annotated[list[Text], Field(min_length=1)]
    tier: Tier
    accept: Annotated[Any, AfterValidator(acceptance.parse)]
    why: Text
    seeds: Annotated[int, Field(ge=3)] = 3
    needs: Literal["cuda"] | None = None
    cost: Text | None = None

    @field_validator("cost")
    @classmethod
    def _cost_in_gpu_hours(cls, cost: str | None) -> str | None:
        if cost is not None and "GPU-hour" not in cost:
            raise ValueError(f"must be in GPU-hours, such as '0.1 GPU-hours', not {cost!r}")
        return cost

    @model_validator(mode="after")
    def _paper_scale(self) -> Claim:
        if (self.tier == "paper") != (self.needs is not None and self.cost is not None):
            raise ValueError("a claim of tier `paper`, and only such a one, states `needs` and `cost`")
        return self

    @property
    def runs(self) -> int:
        """How many seeds it is measured with: one for an exact claim, `seeds` otherwise."""
        return 1 if self.tier == "exact" else self.seeds


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


def load(path: Path) -> Record:
    """Read and validate a record; RecordError names file, table and key in one line."""
    name = f"papers/{path.name}"
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{name}: there is no such record; `papers/` holds one .toml file a paper") from None
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
    for i, claim in record.claims.items():
        for reported in claim.reports:
            if reported not in record.reported:
                hint = nearest(reported, record.reported)
                raise RecordError(f"{name}: [claims.{i}] reports: there is no [reported.{reported}]{hint}")
        accept: acceptance.Accept = claim.accept
        criteria = list(accept.values()) if isinstance(accept, dict) else [accept]
        if len(claim.reports) > 1 and any(c.kind in acceptance.COMPARES for c in criteria):
            raise RecordError(f"{name}: [claims.{i}] accept: a criterion that compares with the paper's value "
                              "needs exactly one id in `reports`")  # fmt: skip
    return record


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
    return f"{table}{key}: {first['msg'].removeprefix('Value error, ')}"
