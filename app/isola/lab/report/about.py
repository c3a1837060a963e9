"""Background that readers need to trust the figures, and to reproduce them."""

import statistics
from collections.abc import Mapping
from typing import Any

from isola.lab.report import units
from isola.lab.report.document import Block, Bullets, Code, Section, Table
from isola.lab.report.results import Results

BUSY = 0.1
"""Other work took this share of the machine during a measurement: it is counted in the report."""

TURNS = (
    "The subjects of a point take turns within each round, so that what slows the machine for a while slows all of "
    "them. Figures are medians over the rounds; lines in the charts reach from the lowest round to the highest."
)
PAIRS = (
    "Two subjects are compared round by round: the geometric mean of the rounds' ratios, with its 95 % interval by "
    "Student's t. A difference whose interval contains 1 is called none. Of twenty differences that are none, one gets "
    "past this by chance: believe a trend over several sizes before a single point."
)
CROSSINGS = (
    "A crossover is interpolated, on logarithms, between two sizes at which opposite sides are ahead significantly."
)
RATIOS = (
    "Ratios between subjects of one run hold on other machines as long as the same thing is short there: who is ahead, "
    "about how many times, and near which size that changes."
)
COUNTS = (
    "Numbers of relations, and bytes on disk and in memory, follow from PostgreSQL's version and the number of tables, "
    "not from the machine."
)
TIMES = (
    "Times, and requests a second, are those of this machine. With more cores, or with the client on another "
    "machine, those ratios change as well that come from client, server and PostgreSQL sharing cores."
)
AGAIN = (
    "With `--database-url` it runs on a server of yours, in databases of its own. An interrupted run goes on where it "
    "was. `isola advise` answers for your own numbers of tenants, rows and requests."
)


def confidence(results: Results) -> Section:
    """The number of rounds, the load from other programs, and the statistics derived from them."""
    rounds = {
        name: len({each.round for each in results.measurements if each.scenario == name}) for name in results.scenarios
    }
    measured = [each for each in results.measurements if each.values]
    summary = ", ".join(f"{count} of `{name}`" for name, count in rounds.items())
    lines = [f"{len(measured):,} measurements; rounds: {summary}.", TURNS, PAIRS, CROSSINGS]
    if measured:
        busy = [each.busy_elsewhere for each in measured]
        often = sum(each > BUSY for each in busy)
        lines.append(
            f"Other work on the machine took {statistics.median(busy):.0%} of it at the median, and more than "
            f"{BUSY:.0%} in {often:,} of the {len(busy):,} measurements."
        )
    return Section("confidence", "How far to trust this", [Bullets(lines)])


def disturbed(results: Results) -> str | None:
    """A warning, if other work on the machine took much of it during most measurements."""
    busy = [each.busy_elsewhere for each in results.measurements if each.values]
    if not busy or statistics.median(busy) <= BUSY:
        return None
    return (
        f"The machine was busy: other work took {statistics.median(busy):.0%} of it at the median. Differences that a "
        "idle machine would show may not be significant here, and times are longer than on such a machine."
    )


def elsewhere() -> Section:
    """Which statements are ratios that hold on other machines, and which are absolute times that don't."""
    return Section("elsewhere", "What holds elsewhere", [Bullets([RATIOS, COUNTS, TIMES])])


def machine(results: Results) -> Section:
    """The machine and software of the measurements."""
    run = results.run
    summary = {name: run[name] for name in ("id", "started", "profile", "seed") if name in run}
    tables = [
        _pairs("The run", summary),
        _pairs("The machine", run.get("machine") or {}),
        _pairs("Versions", run.get("versions") or {}),
        _pairs("Settings of PostgreSQL", run.get("settings") or {}),
    ]
    return Section("machine", "Machine, versions and settings", [table for table in tables if table.rows])


def application(results: Results) -> Section:
    """The application whose tables were measured, and a tenant's row counts in them."""
    said: Mapping[str, Any] = results.run["application"]
    by_size: Mapping[str, Mapping[str, int]] = said.get("rows", {})
    tables = dict.fromkeys(name for counts in by_size.values() for name in counts)
    rows = [[f"`{name}`", *(f"{counts.get(name, 0):,}" for counts in by_size.values())] for name in tables]
    header = ["table", *(f"rows, of {int(size):,} asked for" for size in by_size)]
    text = (
        f"The tables of `{said['name']}`, with generated rows. The usual operations ask for `{said.get('subject')}`. "
        "Where rows have to be unique there may be fewer than were asked for; where tenants are skewed, these are "
        "those of one of average size."
    )
    return Section("application", "What was measured", [text, Table("Rows of a tenant", header, rows)])


def left_out(results: Results) -> Section:
    """Subjects and operations that the run left out."""
    left: Mapping[str, Any] = results.run.get("left_out") or {}
    lines = [f"`{name}`: {reason}" for name, reason in left.items()]
    block: Block = Bullets(lines) if lines else "Nothing."
    return Section("left-out", "What was left out, and why", [block])


def again(results: Results) -> Section:
    """How to measure on another machine, and to compare the figures with these."""
    profile = results.run.get("profile", "standard")
    about = f"--application {results.application} " if results.application else ""
    command = f"isola bench run {about}--profile {profile}\nisola bench compare THESE.jsonl YOURS.jsonl"
    return Section("again", "How to run it again", [Code(command), AGAIN])


def _pairs(caption: str, found: Mapping[str, Any]) -> Table:
    rows = [
        (name.removesuffix("_bytes"), units.size(value) if name.endswith("_bytes") else str(value))
        for name, value in found.items()
    ]
    return Table(caption, ("", ""), rows, figures_from=2)
