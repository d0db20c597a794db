"""The outcomes as Markdown tables for ``docs/faults.md``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from tests.faults import kinds
from tests.faults.benign import VariationResult
from tests.faults.outcome import Outcome

HEAD = (
    "| fault | severity | caught after | furthest off | x allowed | named cause |\n|---|---|---|---|---|---|"
)

PLACES = {
    kinds.EVERYWHERE: "every block",
    kinds.BEFORE: "before the language model",
    "block ": "one block, the first blocks, positions",
    kinds.HEAD: "final norm or output head",
}
"""A part of the expected cause -> the group of faults with it; the first that fits counts."""
OTHER_PLACE = "prompt, layout, number of blocks"
UNCERTAIN = ("at or before", "or only")
"""Words of a cause that leaves several places open."""


def faults(outcomes: Sequence[Outcome]) -> str:
    return "\n".join([HEAD, *map(_line, outcomes)])


def _line(outcome: Outcome) -> str:
    name = outcome.fault if outcome.family == "llava" else f"{outcome.fault} ({outcome.family})"
    cells = name, outcome.label, _caught_after(outcome), _largest_difference(outcome), _cause(outcome)
    return f"| {' | '.join(cells)} |"


def _caught_after(outcome: Outcome) -> str:
    if outcome.refusal:
        return "refused"
    images = outcome.images
    return "**missed**" if images is None else f"{images} image{'s' if images > 1 else ''}"


def _largest_difference(outcome: Outcome) -> str:
    """Two cells: the curve and layer, and the difference divided by the allowed one; or a refusal."""
    if outcome.refusal:
        reason = re.sub(r"\S*/changed", "FOLDER", outcome.refusal).replace("|", "/").replace("\n", " ")
        return f"{reason[:80]}... | " if len(reason) > 80 else f"{reason} | "
    if not outcome.excess:
        return "- | 0"
    return f"`{outcome.curve}`, layer {outcome.layer} | {outcome.excess:.2g}"


def _cause(outcome: Outcome) -> str:
    if not outcome.is_caught or outcome.refusal:
        return ""
    cause = outcome.cause.partition(":")[0]
    if not outcome.expected:
        return cause or "none"
    if outcome.has_right_cause:
        return "right"
    return f"wrong: {cause}" if cause else "none"


def shares(outcomes: Sequence[Outcome]) -> str:
    """A table of the faults caught, by severity."""
    levels: dict[str, Callable[[Outcome], bool]] = {
        "mildest": lambda outcome: outcome.severity == 0,
        "middle": lambda outcome: outcome.severity == (outcome.severities - 1) // 2,
        "highest": lambda outcome: outcome.severity == outcome.severities - 1,
        "all": lambda outcome: True,
    }
    lines = ["| severity | faults | caught | share | of them refused |", "|---|---|---|---|---|"]
    for name, has_level in levels.items():
        at_level = [outcome for outcome in outcomes if has_level(outcome)]
        caught = sum(outcome.is_caught for outcome in at_level)
        refusals = sum(bool(outcome.refusal) for outcome in at_level)
        lines.append(
            f"| {name} | {len(at_level)} | {caught} | {_percentage(caught, len(at_level))} | {refusals} |"
        )
    return "\n".join(lines)


def _percentage(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def causes(outcomes: Iterable[Outcome]) -> str:
    """A table: how often the named cause was right, among the faults that have an expected cause."""
    measured = [o for o in outcomes if o.is_caught and not o.refusal and o.expected]
    groups = {name: [o for o in measured if _place(o) == name] for name in [*PLACES.values(), OTHER_PLACE]}
    lines = [
        "| place of the fault | faults | right | share | of them uncertain | wrong | none named |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_cause_line(*group) for group in [*groups.items(), ("all", measured)])])


def _place(outcome: Outcome) -> str:
    """The group of faults by the place that the cause should name."""
    expected = "; ".join(outcome.expected)
    return next((name for part, name in PLACES.items() if part in expected), OTHER_PLACE)


def _cause_line(name: str, outcomes: Sequence[Outcome]) -> str:
    right = [outcome for outcome in outcomes if outcome.has_right_cause]
    uncertain = sum(any(word in outcome.cause for word in UNCERTAIN) for outcome in right)
    unnamed = sum(not outcome.cause for outcome in outcomes)
    wrong = len(outcomes) - len(right) - unnamed
    share = _percentage(len(right), len(outcomes))
    return f"| {name} | {len(outcomes)} | {len(right)} | {share} | {uncertain} | {wrong} | {unnamed} |"


def missed(outcomes: Iterable[Outcome]) -> str:
    """A line for each fault that was not caught."""
    lines = [f"- {outcome.fault}, {outcome.label}" for outcome in outcomes if not outcome.is_caught]
    return "\n".join(lines) or "None."


def variations(results: Sequence[VariationResult]) -> str:
    """A table with a line for each variation."""
    lines = ["| variation | times | false alarms | nearest, x allowed |", "|---|---|---|---|"]
    for name in dict.fromkeys(result.variation for result in results):
        group = [result for result in results if result.variation == name]
        worst = max(group, key=lambda result: result.excess)
        difference = f"`{worst.curve}`, layer {worst.layer}, {worst.model}, {worst.images}"
        alarms = sum(result.alarm for result in group)
        lines.append(f"| {name} | {len(group)} | {alarms} | {worst.excess:.2g} ({difference}) |")
    lines.append(f"| all | {len(results)} | {sum(result.alarm for result in results)} | |")
    return "\n".join(lines)
