"""What a server has at the moment of a scrape: connections to databases, caches, subscriptions."""

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from isola.api.execute import Executor
from isola.api.live.hub import Hub
from isola.database.transactions import Database
from isola.telemetry.records import Recorder


class Pools:
    """The pools of connections, by the name that the label ``pool`` gives them."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = databases

    def collect(self) -> Iterable[Metric]:
        size = GaugeMetricFamily("isola_pool_size", "The most connections of a pool", labels=["pool"])
        connections = GaugeMetricFamily("isola_pool_connections", "Connections of a pool", labels=["pool", "state"])
        waiting = GaugeMetricFamily(
            "isola_pool_waiting", "Transactions that wait for a connection of a pool", labels=["pool"]
        )
        refused = CounterMetricFamily(
            "isola_pool_refused", "Transactions that got no connection of a pool", labels=["pool"]
        )
        for name, database in self._databases.items():
            usage = database.usage
            size.add_metric([name], usage.size)
            connections.add_metric([name, "busy"], usage.busy)
            connections.add_metric([name, "idle"], usage.idle)
            waiting.add_metric([name], usage.waiting)
            refused.add_metric([name], usage.refused)
        return [size, connections, waiting, refused]


class Caches:
    """The caches of documents and of the statements that they are compiled to."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def collect(self) -> Iterable[Metric]:
        documents, statements = self._executor.documents.measures(), self._executor.compiler.measures()
        parsed = CounterMetricFamily("isola_documents_parsed", "Documents that were parsed, since none was cached")
        parsed.add_metric([], documents["parsed"])
        lookups = CounterMetricFamily(
            "isola_statement_cache_lookups", "Uses of the cache of statements", labels=["result"]
        )
        lookups.add_metric(["hit"], statements["hits"])
        lookups.add_metric(["miss"], statements["misses"])
        size = GaugeMetricFamily("isola_cache_bytes", "Memory that a cache has, by its own estimate", labels=["cache"])
        size.add_metric(["documents"], documents["bytes"])
        size.add_metric(["statements"], statements["bytes"])
        return [parsed, lookups, size]


class Subscriptions:
    """Subscriptions and live queries."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterable[Metric]:
        return [
            GaugeMetricFamily("isola_subscriptions", "Subscriptions and live queries", value=self._hub.subscriptions)
        ]


class Records:
    """Records of requests; zeros if there are none."""

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder

    def collect(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily("isola_request_records_waiting", "Records of requests that are not stored yet")
        waiting.add_metric([], self._recorder.waiting if self._recorder else 0)
        lost = CounterMetricFamily("isola_request_records_lost", "Records of requests that were lost")
        lost.add_metric([], self._recorder.lost if self._recorder else 0)
        return [waiting, lost]
