"""What PostgreSQL prints for whoever asks: everybody may set ``debug_print_plan``, and get the plans of functions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from isola.database.transactions import Transaction


@asynccontextmanager
async def plans_of(work: Transaction) -> AsyncIterator[list[str]]:
    """The plans that the server prints for the client, from here on, without blanks; complete at the end."""
    printed: list[str] = []

    def keep(_: object, message: asyncpg.PostgresLogMessage) -> None:
        printed.append("".join(str(message.as_dict().get("detail")).split()))

    for setting, value in (
        ("plan_cache_mode", "force_custom_plan"),
        ("debug_print_plan", "on"),
        ("client_min_messages", "log"),
    ):
        await work.script(f"SET LOCAL {setting} = {value}")
    work._connection.add_log_listener(keep)
    try:
        yield printed
    finally:
        work._connection.remove_log_listener(keep)


def in_plan(value: bytes) -> str:
    """The bytes of a constant as a plan has them, without blanks: decimal numbers, with signs."""
    return "".join(str(byte - 256 * (byte > 127)) for byte in value)
