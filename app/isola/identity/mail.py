"""E-mail, by the SMTP server of the operator."""

import asyncio
import smtplib
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, make_msgid
from urllib.parse import SplitResult, unquote, urlsplit

from isola.errors import OperatorError
from isola.identity.fetch import is_loopback
from isola.settings import Settings

TIMEOUT = 10.0
"""Seconds that each step of a delivery may take."""
_PORTS = {"smtp": 587, "smtps": 465}
_PERMANENT = 500


class RejectedError(Exception):
    """The mail server will never accept this message."""


class Mailer:
    """Hands messages over to the mail server.

    ``smtps`` is TLS from the start; ``smtp`` turns to TLS before anything else, except on a loopback interface.
    """

    def __init__(self, url: str, sender: str) -> None:
        """Raises ValueError for a malformed address of the server or of the sender."""
        self._server = _server(url)
        self._sender = _address(sender)

    @property
    def domain(self) -> str:
        """The domain of the sender."""
        return self._sender.domain

    def message(self, to: str, subject: str, text: str) -> EmailMessage:
        """A message to one address. Raises ValueError for headers of several lines."""
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = Address(addr_spec=to)
        message["Subject"] = subject
        message["Date"] = format_datetime(localtime())
        message["Message-ID"] = make_msgid(domain=self._sender.domain)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message

    async def send(self, message: EmailMessage) -> None:
        """Raises RejectedError if a repetition is useless, OSError or smtplib.SMTPException otherwise."""
        await asyncio.to_thread(self._send, message)

    def _send(self, message: EmailMessage) -> None:
        host, port = self._server.hostname or "", self._server.port or _PORTS[self._server.scheme]
        tls = ssl.create_default_context()
        name = self._sender.domain
        if self._server.scheme == "smtps":
            connected: smtplib.SMTP = smtplib.SMTP_SSL(host, port, name, timeout=TIMEOUT, context=tls)
        else:
            connected = smtplib.SMTP(host, port, name, timeout=TIMEOUT)
        with connected as smtp:
            if self._server.scheme == "smtp" and not is_loopback(host):
                smtp.starttls(context=tls)
            if self._server.username:
                smtp.login(unquote(self._server.username), unquote(self._server.password or ""))
            try:
                smtp.send_message(message)
            except smtplib.SMTPRecipientsRefused as refused:
                codes = [code for code, _ in refused.recipients.values()]
                if min(codes, default=0) >= _PERMANENT:
                    raise RejectedError from None
                raise
            except smtplib.SMTPDataError as refused:
                if refused.smtp_code >= _PERMANENT:
                    raise RejectedError from None
                raise


def from_settings(settings: Settings) -> Mailer | None:
    """The mailer, None without ``ISOLA_SMTP_URL``. Raises OperatorError, naming the setting, for an invalid one."""
    if settings.smtp_url is None:
        return None
    if settings.mail_from is None:
        raise OperatorError("ISOLA_MAIL_FROM: expected the address of the sender, because there is ISOLA_SMTP_URL")
    try:
        return Mailer(settings.smtp_url.get_secret_value(), settings.mail_from)
    except ValueError as error:
        raise OperatorError(str(error)) from None


def _server(url: str) -> SplitResult:
    invalid = "ISOLA_SMTP_URL: expected smtp:// or smtps:// with a host, and optionally user:password@ and a port"
    try:
        server = urlsplit(url)
        port = server.port
    except ValueError:
        raise ValueError(invalid) from None
    further = server.path.strip("/") or server.query or server.fragment
    if server.scheme not in _PORTS or not server.hostname or port == 0 or further:
        raise ValueError(invalid)
    return server


def _address(text: str) -> Address:
    name, _, address = text.rpartition("<")
    try:
        parsed = Address(name.strip().strip('"'), addr_spec=address.removesuffix(">").strip())
    except (ValueError, IndexError):
        parsed = Address()
    if not parsed.username or not parsed.domain or not text.isprintable() or not parsed.addr_spec.isascii():
        raise ValueError("ISOLA_MAIL_FROM: expected an address, or a name and <address>")
    return parsed
