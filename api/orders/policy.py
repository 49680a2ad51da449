"""The policy: which finding opens which work order. Data in TOML, checked completely, explained in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from anomaly.findings import RULES
from api.orders.deadlines import Deadline
from api.orders.words import Opens, OrderType, Priority, both
from metering.settings import SettingsModel, load, nearest, parse

SHIPPED: Final = Path(__file__).parent / "policy.toml"
SEVERITIES: Final = ("info", "minor", "major", "critical")

Severity = Literal["info", "minor", "major", "critical"]
Medium = Literal["gas", "water", "electricity", "heat"]
CustomerClass = Literal["residential", "residential_heating", "restaurant", "commercial", "public", "industrial"]

KINDS: Final = frozenset(info.kind for info in RULES.values())


def _kind(word: str) -> str:
    if word not in KINDS:
        raise ValueError(f"no kind of finding: {nearest(word, sorted(KINDS))}")
    return word


def _rule(word: str) -> str:
    if word not in RULES:
        raise ValueError(f"no rule: {nearest(word, sorted(RULES))}")
    return word


def _deadline(text: str) -> str:
    Deadline.parse(text)
    return text


Promise = Annotated[str, AfterValidator(_deadline)]


@dataclass(frozen=True, slots=True)
class Case:
    """What of a finding the policy looks at."""

    kind: str
    rule: str
    severity: str
    medium: str
    customer_class: str
    district: str


class PolicyRule(SettingsModel):
    """One line of the policy. A list that is left out fits everything."""

    id: str = Field(description="Name of this line, as orders quote it.", min_length=1, max_length=48)
    kinds: tuple[Annotated[str, AfterValidator(_kind)], ...] = Field(
        description="Kinds of findings that it fits.", min_length=1
    )
    rules: tuple[Annotated[str, AfterValidator(_rule)], ...] = Field((), description="Only findings of these rules.")
    min_severity: Severity = Field("info", description="Only findings of this severity or a higher one.")
    classes: tuple[CustomerClass, ...] = Field((), description="Only these customer classes.")
    media: tuple[Medium, ...] = Field((), description="Only these media.")
    districts: tuple[str, ...] = Field((), description="Only usage points in these districts.")
    order: OrderType = Field(description="Type of the work order.")
    priority: Priority = Field(description="How soon somebody goes.")
    opens: Opens = Field(description="`itself`, or `proposed` to a dispatcher who decides.")
    respond: Promise | None = Field(None, description="Promise by when work begins; none when left out.")
    deadline: Promise = Field(description='Promise by when the order is finished: "6 h" or "5 working days".')

    def fits(self, case: Case) -> bool:
        """True when this line is for that finding."""
        return (
            case.kind in self.kinds
            and (not self.rules or case.rule in self.rules)
            and _rank(case.severity) >= _rank(self.min_severity)
            and (not self.classes or case.customer_class in self.classes)
            and (not self.media or case.medium in self.media)
            and (not self.districts or case.district in self.districts)
        )

    def covers(self, other: PolicyRule) -> bool:
        """True when whatever fits `other` fits this line, too."""
        return (
            set(other.kinds) <= set(self.kinds)
            and _rank(other.min_severity) >= _rank(self.min_severity)
            and all(
                not mine or (theirs and set(theirs) <= set(mine))
                for mine, theirs in (
                    (self.rules, other.rules),
                    (self.classes, other.classes),
                    (self.media, other.media),
                    (self.districts, other.districts),
                )
            )
        )


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


class Policy(SettingsModel):
    """All lines; the first that fits decides."""

    version: str = Field(description="Name of this state of the policy; every order keeps it.", min_length=1)
    rule: tuple[PolicyRule, ...] = Field(description="The lines, the most special first.")

    @model_validator(mode="after")
    def _reachable(self) -> Policy:
        names = [rule.id for rule in self.rule]
        for place, rule in enumerate(self.rule):
            if rule.id in names[:place]:
                raise ValueError(f'two rules are called "{rule.id}"')
            for earlier in self.rule[:place]:
                if earlier.covers(rule):
                    raise ValueError(
                        f'rule "{rule.id}" is never reached: "{earlier.id}" before it fits all of its cases'
                    )
        return self

    def decide(self, case: Case) -> PolicyRule | None:
        """Return the line that a finding falls under, None when nobody is to be sent."""
        return next((rule for rule in self.rule if rule.fits(case)), None)


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy file; the shipped one when None. Raises: SettingsError."""
    return load(path or SHIPPED, Policy)


def parse_policy(text: str, name: str = "policy") -> Policy:
    """Check a policy's text. Raises: SettingsError."""
    return parse(text, Policy, name=name)


def explain(policy: Policy) -> Iterator[str]:
    """Return the policy in words, one sentence a line."""
    yield f"Policy {policy.version}: the first sentence that fits a finding decides; what none fits opens nothing."
    for rule in policy.rule:
        yield f"{rule.id}: {_case(rule)} {_deed(rule)}"


def _case(rule: PolicyRule) -> str:
    words = [" or ".join(rule.kinds)]
    if rule.min_severity != "info":
        words.append(f"of severity {rule.min_severity} or above")
    for name, values in (
        ("rule", rule.rules),
        ("class", rule.classes),
        ("medium", rule.media),
        ("district", rule.districts),
    ):
        if values:
            words.append(f"with {name} {' or '.join(values)}")
    return " ".join(words)


def _deed(rule: PolicyRule) -> str:
    opens = "opens" if rule.opens is Opens.ITSELF else "proposes"
    begin = f", begun within {Deadline.parse(rule.respond)}" if rule.respond else ""
    end = f"finished within {Deadline.parse(rule.deadline)}"
    return f"{opens} a work order {both(rule.order)}, {both(rule.priority)}{begin}, {end}."
