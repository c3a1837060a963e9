"""Rows per second that ``isola adopt --load`` copies into a tenant, under each strategy.

``python -m benchmarks.adopting`` from the checkout. The source is a shop: customers, orders with a reference to them,
lines with references to orders and products, and pairs of customers and products. Commands run as they do for a user,
on a separate PostgreSQL with durable commits. The source is another database of it.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from isola.database import embedded
from isola_strategies import registry

CUSTOMERS, ORDERS, LINES = 50_000, 150_000, 600_000
SHOP = f"""
CREATE TABLE customers (id serial PRIMARY KEY, name varchar(100) NOT NULL, email text UNIQUE, since timestamp);
CREATE TABLE products (code varchar(20) PRIMARY KEY, name text NOT NULL, price numeric(10, 2) NOT NULL);
CREATE TABLE orders (
    id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, at timestamptz NOT NULL, note text
);
CREATE TABLE lines (
    order_id int REFERENCES orders, number int, product varchar(20) NOT NULL REFERENCES products,
    quantity int NOT NULL CHECK (quantity > 0), price numeric(10, 2) NOT NULL, PRIMARY KEY (order_id, number)
);
CREATE TABLE favourites (
    customer_id int REFERENCES customers, product varchar(20) REFERENCES products, PRIMARY KEY (customer_id, product)
);
INSERT INTO customers (name, email, since)
    SELECT 'customer ' || n, n || '@example.org', timestamp '2020-01-01' + n * interval '1 minute'
    FROM generate_series(1, {CUSTOMERS}) n;
INSERT INTO products SELECT 'p-' || n, 'product ' || n, n / 10.0 FROM generate_series(1, 2000) n;
INSERT INTO orders (customer_id, at, note)
    SELECT 1 + n % {CUSTOMERS}, timestamptz '2021-01-01' + n * interval '1 minute', repeat('note ', n % 10)
    FROM generate_series(1, {ORDERS}) n;
INSERT INTO lines SELECT 1 + n % {ORDERS}, n / {ORDERS}, 'p-' || 1 + n % 2000, 1 + n % 5, n % 100
    FROM generate_series(0, {LINES - 1}) n;
INSERT INTO favourites SELECT n, 'p-' || 1 + n % 2000 FROM generate_series(1, {CUSTOMERS}) n;
"""
ROWS = CUSTOMERS + 2000 + ORDERS + LINES + CUSTOMERS


def address(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


async def execute(url: str, script: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(script)
    await connection.close()


def run(directory: Path, url: str) -> None:
    source = address(url, "shop")
    settings = {"ISOLA_DATABASE_URL": address(url, "isola"), "ISOLA_DATA_DIR": str(directory / "data")}
    with_shop = {"ISOLA_APPLICATIONS": "shop:application", "PYTHONPATH": str(directory / "shop")}

    def isola(*arguments: str, **more: str) -> float:
        began = time.perf_counter()
        environment = {**os.environ, **settings, **more}
        program = [str(Path(sys.executable).with_name("isola")), *arguments]
        subprocess.run(program, cwd=directory, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    asyncio.run(execute(url, "CREATE DATABASE shop"))
    asyncio.run(execute(url, "CREATE DATABASE isola"))
    asyncio.run(execute(source, SHOP))
    asyncio.run(execute(source, "VACUUM ANALYZE"))
    isola("adopt", source, ISOLA_APPLICATIONS="")
    isola("migrate", **with_shop)
    table = Table("rows", "strategy", "s", "rows a second", box=None)
    for strategy in registry.load("isola_tenant"):
        isola("tenant", "create", strategy, "--strategy", strategy, **with_shop)
        took = isola("adopt", source, "--load", "--tenant", strategy, **with_shop)
        table.add_row(f"{ROWS:,}", strategy, f"{took:.1f}", f"{ROWS / took:,.0f}")
    Console(width=120).print(table)


def main() -> None:
    with TemporaryDirectory(prefix="isola-benchmark-") as directory, embedded.running(Path(directory) / "data") as url:
        run(Path(directory), url)


if __name__ == "__main__":
    main()
