"""Readable names of values, and formatted figures. The suffix of a value's name is its unit."""

import math

ENDINGS = ("_per_s", "_ms", "_us", "_s", "_bytes", "_count", "_ratio")
SECONDS = {"_s": 1.0, "_ms": 1e-3, "_us": 1e-6}
DIGITS = 3
TIMES = "\N{MULTIPLICATION SIGN}"
TO = "\N{EN DASH}"

DIMENSIONS = {
    "rate_per_s": "requests a second",
    "new_rows": "rows of the tenant",
    "updates": "updates of each row",
}
WORDS = {
    "cpu": "CPU",
    "postgresql": "PostgreSQL",
    "p50": "median",
    "p95": "95th percentile",
    "p99": "99th percentile",
    "analyze": "ANALYZE",
    "sql": "SQL",
}


def ending(name: str) -> str:
    """``_ms`` of ``p99_ms``; empty for a name without a known ending."""
    return next((each for each in ENDINGS if name.endswith(each)), "")


def more_is_better(name: str) -> bool:
    return ending(name) == "_per_s"


def is_absolute_time(name: str) -> bool:
    """Whether a value is an absolute figure of this machine."""
    return ending(name) in (*SECONDS, "_per_s")


def words(name: str) -> str:
    """A name without its unit: ``p99_ms`` is the 99th percentile, ``server_cpu_ms`` the server CPU."""
    unit = ending(name)
    stem = name.removesuffix(unit) or name
    said = " ".join(WORDS.get(word, word) for word in stem.split("_"))
    return f"{said} ratio" if unit == "_ratio" else said


def dimension(name: str) -> str:
    """The unit of a dimension: ``rate_per_s`` is requests per second."""
    return DIMENSIONS.get(name, name.replace("_", " "))


def figure(name: str, value: float) -> str:
    """A value with its unit, to three digits: ``12.3 ms``, ``4,560 /s``, ``1.2 MB``."""
    unit = ending(name)
    if unit in SECONDS:
        return duration(seconds(name, value))
    if unit == "_bytes":
        return size(value)
    if unit == "_per_s":
        return f"{number(value)} /s"
    return f"{number(value)}{TIMES}" if unit == "_ratio" else number(value)


def seconds(name: str, value: float) -> float:
    """A value of time in seconds. Raises KeyError for one that is no time."""
    return value * SECONDS[ending(name)]


def duration(length_s: float) -> str:
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(length_s) >= length:
            return f"{number(length_s / length)} {unit}"
    return f"{number(length_s * 1e6)} µs"


def size(count: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= length:
            return f"{number(count / length)} {unit}"
    return f"{number(count)} B"


def number(value: float) -> str:
    """To three digits, or to the whole number if that has more."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "∞"
    decimals = max(0, DIGITS - 1 - math.floor(math.log10(abs(value))))
    said = f"{value:,.{min(decimals, 6)}f}"
    return said.rstrip("0").rstrip(".") if "." in said else said


def rounded(value: float) -> str:
    """An interpolated size, rounded to two digits."""
    step = 10 ** max(0, math.floor(math.log10(value)) - 1) if value > 0 else 1
    return f"{round(value / step) * step:,}"


def factor(value: float) -> str:
    """A ratio: below ten with hundredths."""
    return f"{number(value)}{TIMES}" if round(value, 2) >= 10 else f"{value:.2f}{TIMES}"  # noqa: PLR2004  see above
