"""The outcomes as Markdown, for ``docs/faults.md``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from tests.faults.benign import Harmless
from tests.faults.harness import Outcome

HEAD = (
    "| fault | severity | caught after | furthest off | x allowed | named cause |\n|---|---|---|---|---|---|"
)


def faults(outcomes: Sequence[Outcome]) -> str:
    return "\n".join([HEAD, *map(_line, outcomes)])


def _line(one: Outcome) -> str:
    kind = one.fault if one.family == "llava" else f"{one.fault} ({one.family})"
    return f"| {kind} | {one.label} | {_when(one)} | {_where(one)} | {_named(one)} |"


def _when(one: Outcome) -> str:
    if one.refused:
        return "refused"
    return "**missed**" if one.images is None else f"{one.images} image{'s' if one.images > 1 else ''}"


def _where(one: Outcome) -> str:
    if one.refused:
        told = re.sub(r"\S*/changed", "FOLDER", one.refused).replace("|", "/").replace("\n", " ")
        return f"{told[:80]}... | " if len(told) > 80 else f"{told} | "
    return f"`{one.curve}`, layer {one.layer} | {one.excess:.2g}" if one.excess else "- | 0"


def _named(one: Outcome) -> str:
    if not one.caught or one.refused:
        return ""
    if not one.expected:
        return one.said.partition(":")[0] or "none"
    return "right" if one.named else (f"wrong: {one.said.partition(':')[0]}" if one.said else "none")


def shares(outcomes: Sequence[Outcome]) -> str:
    """How many were caught, by severity."""
    levels: dict[str, Callable[[Outcome], bool]] = {
        "mildest": lambda one: one.severity == 0,
        "middle": lambda one: one.severity == (one.of - 1) // 2,
        "highest": lambda one: one.severity == one.of - 1,
        "all": lambda one: True,
    }
    lines = ["| severity | faults | caught | share | of them refused |", "|---|---|---|---|---|"]
    for name, of in levels.items():
        some = [one for one in outcomes if of(one)]
        caught = [one for one in some if one.caught]
        refused = sum(bool(one.refused) for one in caught)
        lines.append(
            f"| {name} | {len(some)} | {len(caught)} | {_share(len(caught), len(some))} | {refused} |"
        )
    return "\n".join(lines)


def _share(some: int, of: int) -> str:
    return f"{some / of:.1%}" if of else "-"


def causes(outcomes: Iterable[Outcome]) -> str:
    """How often the named cause was right, of the faults of which one was expected."""
    told = [one for one in outcomes if one.caught and not one.refused and one.expected]
    right, silent = sum(one.named for one in told), sum(not one.said for one in told)
    wrong = len(told) - right - silent
    return (
        f"Of {len(told)} faults that were measured and seen, and have a place that curves can tell, the "
        f"named cause was right in {right} ({_share(right, len(told))}), wrong in {wrong}, and "
        f"{silent} times none was named."
    )


def missed(outcomes: Iterable[Outcome]) -> str:
    lines = [f"- {one.fault}, {one.label}" for one in outcomes if not one.caught]
    return "\n".join(lines) or "None."


def benign(found: Sequence[Harmless]) -> str:
    """One line a kind of variation."""
    lines = ["| variation | times | false alarms | nearest, x allowed |", "|---|---|---|---|"]
    for name in dict.fromkeys(one.variation for one in found):
        some = [one for one in found if one.variation == name]
        worst = max(some, key=lambda one: one.excess)
        told = f"{worst.excess:.2g} (`{worst.curve}`, layer {worst.layer}, {worst.model}, {worst.images})"
        lines.append(f"| {name} | {len(some)} | {sum(one.alarm for one in some)} | {told} |")
    lines.append(f"| all | {len(found)} | {sum(one.alarm for one in found)} | |")
    return "\n".join(lines)
