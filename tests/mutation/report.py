"""The results of the trials as text."""

from collections import Counter
from collections.abc import Sequence

from tests.mutation.trial import Outcome, Verdict


def summary(outcomes: Sequence[Outcome]) -> str:
    """The number of sabotages by verdict, and the names of those that the suite did not detect."""
    counted = Counter(outcome.verdict for outcome in outcomes)
    lines = [", ".join(f"{counted[verdict]} {verdict}" for verdict in Verdict)]
    for outcome in outcomes:
        if outcome.verdict is not Verdict.KILLED:
            lines.append(f"{outcome.verdict}: {outcome.name} ({outcome.breaks}) {outcome.by}".rstrip())
        elif not outcome.expected:
            lines.append(f"noticed by another test than expected: {outcome.name} by {outcome.by}")
    return "\n".join(lines)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """A table with one line for each sabotage."""
    lines = ["| sabotage | strategy | what it takes away | verdict | the first test that noticed |", "| --- " * 5 + "|"]
    for outcome in sorted(outcomes, key=lambda each: each.name):
        by = f"`{outcome.by}`" if outcome.verdict is Verdict.KILLED else ""
        cells = (f"`{outcome.name}`", outcome.strategy, outcome.breaks, str(outcome.verdict), by)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
