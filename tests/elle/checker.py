"""Finds dirty reads, lost writes and impossible orders in a history.

It searches two graphs for cycles. The first has the dependencies of Adya (1999): ``ww`` if a transaction overwrote
another's value, ``wr`` if it read another's value. READ COMMITTED permits no cycle of these. In the second, each
transaction has two points in time: that of its statement's snapshot (``look``), and that of its commit (``commit``). A
snapshot is after every commit that it includes, before every one that it does not, and both points are between request
and response. If there is no cycle, each read saw one state of the database, all reads saw these states in one order,
and none saw a state that was outdated when it began.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TypeAlias

import networkx as nx

from tests.elle.history import Key, Operation, Outcome, Read

Graph: TypeAlias = "nx.DiGraph[int]"


class Kind(StrEnum):
    G0 = "G0: a cycle of writes"
    G1A = "G1a: a rolled back value was read"
    G1B = "G1b: an intermediate value was read"
    G1C = "G1c: a cycle of writes and reads"
    SNAPSHOT = "reads without a common order of states"
    STALE = "an outdated state was read"
    LOST = "an acknowledged write is lost"
    OWN = "a transaction did not read its own write"
    DUPLICATE = "a value that was written once occurs twice"
    ORDER = "two reads have different orders"
    GARBAGE = "a value that was never written was read"
    CROSSTALK = "a value of another tenant was read"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """``operations`` are the evidence; for a cycle, in its order."""

    kind: Kind
    operations: tuple[Operation, ...]
    about: str = ""

    def __str__(self) -> str:
        listed = "\n".join(f"  {operation}" for operation in self.operations)
        return f"{self.kind} {self.about}\n{listed}"


# Nodes of both graphs are numbers, because there are many.
def look(operation: int) -> int:
    """The point in time of a transaction's snapshot."""
    return 2 * operation


def commit(operation: int) -> int:
    """The point in time of a transaction's commit."""
    return 2 * operation + 1


def end(place: int) -> int:
    """The point in time of the end at this place in the order of all ends."""
    return -1 - place


def check(history: Sequence[Operation]) -> list[Anomaly]:
    """All anomalies of a history; one cycle of each strongly connected component."""
    return list(_Checker(history).anomalies())


class _Checker:
    def __init__(self, history: Sequence[Operation]) -> None:
        self._history = history
        self._writer: dict[tuple[Key, str], int] = {}
        self._reads: defaultdict[Key, list[tuple[int, Read]]] = defaultdict(list)
        self._appended: defaultdict[Key, list[str]] = defaultdict(list)
        for number, operation in enumerate(history):
            for append in operation.appends:
                if (append.key, append.value) in self._writer:
                    raise ValueError(f"{append} is in the history twice")
                self._writer[append.key, append.value] = number
                self._appended[append.key].append(append.value)
            for read in operation.reads:
                self._reads[read.key].append((number, read))
        # The longest read has the most complete order.
        self._order = {
            key: max((read.values for _, read in reads), key=len) for key, reads in self._reads.items() if key.ordered
        }
        self._seen = {(key, value) for key, reads in self._reads.items() for _, read in reads for value in read.values}

    def anomalies(self) -> Iterator[Anomaly]:
        for reads in self._reads.values():
            for number, read in reads:
                yield from self._of_read(number, read)
        yield from self._lost()
        writes: Graph = nx.DiGraph(self._overwritten())
        yield from self._cycles(writes, Kind.G0)
        reads_too: Graph = nx.DiGraph(writes)
        reads_too.add_edges_from(self._read_from())
        yield from self._cycles(reads_too, Kind.G1C, writes)
        moments: Graph = nx.DiGraph(self._moments())
        yield from self._cycles(moments, Kind.SNAPSHOT, scale=2)
        in_time: Graph = nx.DiGraph(moments)
        in_time.add_edges_from(self._times())
        yield from self._cycles(in_time, Kind.STALE, moments, scale=2)

    def _of_read(self, number: int, read: Read) -> Iterator[Anomaly]:
        reader = self._history[number]
        seen = set(read.values)
        for value, times in Counter(read.values).items():
            if times > 1:
                yield Anomaly(Kind.DUPLICATE, (reader,), f"{read.key.name}: {value}")
            writer = self._writer.get((read.key, value))
            if writer is None:
                strange = [op for op in self._history for each in op.appends if each.value == value]
                kind = Kind.CROSSTALK if any(op.tenant != reader.tenant for op in strange) else Kind.GARBAGE
                yield Anomaly(kind, (reader, *strange[:1]), f"{read.key.name}: {value}")
                continue
            written = self._history[writer]
            if written.tenant != reader.tenant:
                yield Anomaly(Kind.CROSSTALK, (reader, written), f"{read.key.name}: {value}")
            if written.outcome is Outcome.FAILED:
                yield Anomaly(Kind.G1A, (reader, written), f"{read.key.name}: {value}")
            of_writer = [append.value for append in written.appends if append.key == read.key]
            if writer != number and not seen.issuperset(of_writer) and value == of_writer[0]:
                yield Anomaly(Kind.G1B, (reader, written), f"{read.key.name}: {value}")
        if any(append.key == read.key and append.value not in seen for append in reader.appends):
            yield Anomaly(Kind.OWN, (reader,), read.key.name)
        if read.key.ordered and self._order[read.key][: len(read.values)] != read.values:
            yield Anomaly(Kind.ORDER, (reader,), f"{read.key.name}: {self._order[read.key]}")

    def _lost(self) -> Iterator[Anomaly]:
        """Acknowledged values that are missing in the last read of their list."""
        for key, reads in self._reads.items():
            last, read = max(reads, key=lambda each: self._history[each[0]].began)
            for value in self._appended[key]:
                writer = self._history[self._writer[key, value]]
                over = writer.ended < self._history[last].began
                if writer.outcome is Outcome.OK and over and value not in read.values:
                    yield Anomaly(Kind.LOST, (writer, self._history[last]), f"{key.name}: {value}")

    def _overwritten(self) -> Iterator[tuple[int, int]]:
        for key, order in self._order.items():
            writers = [self._writer[key, value] for value in order if (key, value) in self._writer]
            yield from ((one, other) for one, other in pairwise(writers) if one != other)

    def _read_from(self) -> Iterator[tuple[int, int]]:
        for key, reads in self._reads.items():
            for reader, read in reads:
                for value in read.values:
                    writer = self._writer.get((key, value))
                    if writer is not None and writer != reader:
                        yield writer, reader

    def _moments(self) -> Iterator[tuple[int, int]]:
        yield from ((commit(one), commit(other)) for one, other in self._overwritten())
        yield from ((commit(writer), look(reader)) for writer, reader in self._read_from())
        for number, operation in enumerate(self._history):
            if operation.appends and operation.reads:
                yield look(number), commit(number)
        for key, reads in self._reads.items():
            there = {value: self._writer[key, value] for value in self._appended[key] if self._is_there(key, value)}
            for reader, read in reads:
                yield from ((look(reader), commit(there[value])) for value in there.keys() - set(read.values))

    def _is_there(self, key: Key, value: str) -> bool:
        return (key, value) in self._seen or self._history[self._writer[key, value]].outcome is Outcome.OK

    def _times(self) -> Iterator[tuple[int, int]]:
        """Edges for operations that ended before others began, by a chain of all ends."""
        ends = sorted({operation.ended for operation in self._history})
        yield from pairwise(map(end, range(len(ends))))
        places = {moment: end(place) for place, moment in enumerate(ends)}
        for number, operation in enumerate(self._history):
            if operation.outcome is Outcome.FAILED:
                continue
            before = bisect_left(ends, operation.began) - 1
            for moment in self._moments_of(number, operation):
                if before >= 0:
                    yield end(before), moment
                if operation.outcome is Outcome.OK:
                    yield moment, places[operation.ended]

    def _moments_of(self, number: int, operation: Operation) -> Iterator[int]:
        if operation.appends:
            yield commit(number)
        if operation.reads:
            yield look(number)

    def _cycles(self, graph: Graph, kind: Kind, but: "Graph | None" = None, *, scale: int = 1) -> Iterator[Anomaly]:
        """A cycle of each strongly connected component that has no component of the smaller graph ``but``.

        There are ``scale`` nodes for each operation.
        """
        known = set() if but is None else {node for tangle in _tangles(but) for node in tangle}
        for tangle in _tangles(graph):
            if known.isdisjoint(tangle):
                cycle = [one for one, _ in nx.find_cycle(graph.subgraph(tangle))]
                yield Anomaly(kind, tuple(self._history[node // scale] for node in cycle if node >= 0))


def _tangles(graph: Graph) -> Iterator[set[int]]:
    return (tangle for tangle in nx.strongly_connected_components(graph) if len(tangle) > 1)
