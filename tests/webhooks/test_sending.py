"""Which addresses deliveries reach, and how they end."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isola.testing.patience import PATIENCE
from isola.webhooks import endpoints
from isola.webhooks.sending import Failure, Sender
from tests.http.webhooks.receiver import Received, Receiver, answer, receiving

NOT_PUBLIC = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104  only examined
    "255.255.255.255",
    "224.0.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "2001:0:1::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "2002:7f00:1::",
    "192.0.0.192",
    "168.63.129.16",
    "64:ff9b::192.0.0.192",
    "3fff::1",
    "2002:a00:1::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
]
PUBLIC = [
    "93.184.215.14",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "::ffff:8.8.8.8",
    "2002:808:808::1",
    "64:ff9b::808:808",
]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def resolving(*addresses: str, asked: list[str] | None = None) -> endpoints.Resolve:
    async def resolve(host: str) -> Sequence[str]:
        if asked is not None:
            asked.append(host)
        return addresses

    return resolve


async def failure(sender: Sender, url: str) -> str | None:
    try:
        await sender.send(url, {}, b"{}")
    except Failure as failure:
        return failure.kind
    return None


@pytest.mark.parametrize(("addresses", "expected"), [(NOT_PUBLIC, False), (PUBLIC, True)])
def test_an_address_is_public_if_its_packets_end_in_the_public_internet(
    addresses: list[str], *, expected: bool
) -> None:
    wrong = [each for each in addresses if endpoints.is_public(ipaddress.ip_address(each)) is not expected]
    assert wrong == []


@pytest.mark.parametrize("addresses", [(), ("127.0.0.1",), ("::ffff:127.0.0.1",), ("93.184.215.14", "127.0.0.1")])
async def test_nothing_is_sent_to_a_name_with_an_address_that_is_not_public(
    receiver: Receiver, addresses: Sequence[str]
) -> None:
    url = f"https://hooks.example.com:{receiver.port}/"
    assert await failure(Sender(resolving(*addresses), private=False), url) == "NO_PUBLIC_ADDRESS"
    assert receiver.requests == []


async def test_a_name_is_resolved_once_and_the_connection_goes_to_its_address(receiver: Receiver) -> None:
    asked: list[str] = []
    sender = Sender(resolving("127.0.0.1", asked=asked), private=True, limit=PATIENCE)
    assert await failure(sender, f"http://hooks.example.com:{receiver.port}/a?b=c") is None
    assert asked == ["hooks.example.com"]
    [received] = receiver.requests
    assert (received.path, received.headers["host"]) == ("/a?b=c", f"hooks.example.com:{receiver.port}")


async def test_stored_text_that_is_no_url_is_not_sent_to(receiver: Receiver) -> None:
    """SQL inside a tenant can store any text."""
    sender = Sender(resolving("127.0.0.1"), private=False)
    for url in ("", "https://", f"http://127.0.0.1:{receiver.port}/", f"https://127.0.0.1:{receiver.port}/\r\nx: y"):
        assert await failure(sender, url) == "INVALID_URL"
    assert receiver.requests == []


async def test_an_endpoint_that_does_not_answer_in_time_is_cut_off(receiver: Receiver) -> None:
    released = asyncio.Event()

    async def hold(_: Received) -> bytes:
        await released.wait()
        return answer(200)

    receiver.reply = hold
    assert await failure(Sender(resolving("127.0.0.1"), private=True, limit=0.5), receiver.url) == "TIMEOUT"
    released.set()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\n\r\n", "HTTP_503"),
        (b"HTTP/1.1 200 OK\r\nx: ", "PROTOCOL"),
        (b"SSH-2.0-x\r\n", "PROTOCOL"),
    ],
)
async def test_an_answer_of_any_size_is_not_read_beyond_its_head(head: bytes, expected: str | None) -> None:
    sent = 0
    ended = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            writer.write(head)
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536
        except OSError:
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert await failure(Sender(resolving("127.0.0.1"), private=True, limit=PATIENCE), url) == expected
    await ended.wait()
    assert sent < 100_000_000
    server.close()


async def test_certificates_are_verified_against_the_name(tmp_path: Path) -> None:
    served, trusted = certified(tmp_path, "hooks.example.com")
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=served)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(resolving("127.0.0.1"), private=True, limit=PATIENCE, trusted=trusted)
    assert await failure(sender, f"https://hooks.example.com:{port}/") is None
    assert await failure(sender, f"https://other.example.com:{port}/") == "TLS"
    unknown = Sender(resolving("127.0.0.1"), private=True, limit=PATIENCE)
    assert await failure(unknown, f"https://hooks.example.com:{port}/") == "TLS"
    assert len(receiver.requests) == 1
    server.close()


def certified(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server with a certificate for a name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(pem)
    return served, ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
