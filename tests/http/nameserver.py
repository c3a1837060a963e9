"""A name server on loopback, that serves the TXT records of a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from dns import flags, message, rcode, rrset


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """``records`` are TXT records by name. If ``failing`` is set, every answer is that error code."""

    records: dict[str, list[str]] = field(default_factory=dict)
    failing: rcode.Rcode | None = None
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = message.from_wire(data)
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(name)
        response = message.make_response(query)
        response.flags |= flags.AA | flags.RA
        if self.failing is not None:
            response.set_rcode(self.failing)
        elif name in self.records:
            texts = [f'"{text}"' for text in self.records[name]]
            response.answer.append(rrset.from_text(question.name, 60, "IN", "TXT", *texts))
        else:
            response.set_rcode(rcode.NXDOMAIN)
        self._transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
