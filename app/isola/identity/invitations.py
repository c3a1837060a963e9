"""Invitations by e-mail: their tokens, and the messages that contain them.

A token is ``isi_``, 256 random bits and a seal. It is made when the message is sent, after the commit: see
isola.platform.invitations. It is in no log, and neither is the address.
"""

import secrets
import smtplib
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import urlsplit

import structlog

from isola.database.transactions import Database
from isola.errors import Forbidden, OperatorError, Refusal
from isola.identity import mail
from isola.identity.fetch import address
from isola.identity.mail import Mailer, RejectedError
from isola.identity.seal import Seal
from isola.platform import invitations
from isola.platform.background import repeating
from isola.platform.directory import Directory
from isola.platform.invitations import ATTEMPTS, Due, Invitation
from isola.settings import Settings
from isola.subjects import names

INTERVAL = 2.0
"""Seconds between two looks for invitations to send."""
IDLE_INTERVAL = 60.0
"""The same of a server that sends none: it only deletes old ones."""
AT_ONCE = 20
"""Invitations that one look sends at most."""
_TOKEN, _TENANT = "{token}", "{tenant}"
_MAX_SUBJECT = 100

_log = structlog.get_logger(__name__)


class Invitations:
    """Finds the invitation of a token, and sends those that are due. ``secret`` is the installation's."""

    def __init__(
        self, settings: Settings, *, secret: bytes, control: Database, tenants: Database, directory: Directory
    ) -> None:
        """Raises OperatorError for settings of which one is invalid or lacks another."""
        self._seal = Seal("isi_", secret, b"isola invitations")
        self._control = control
        self._tenants = tenants
        self._directory = directory
        self._mailer = mail.from_settings(settings)
        self._url = _page(settings, self._mailer)
        self._lifetime = timedelta(seconds=settings.invitation_lifetime)

    @property
    def lifetime(self) -> timedelta:
        """How long an invitation is valid. Raises Forbidden, naming the setting, if there is no mail server."""
        if self._mailer is None:
            raise Forbidden("invitations need a mail server: the operator has to set ISOLA_SMTP_URL")
        return self._lifetime

    async def find(self, text: str) -> tuple[Invitation | None, str | None]:
        """The open invitation of a token, and the token without its seal; each None if there is none."""
        token = self._seal.open(text)
        return (None if token is None else await invitations.find(self._control, token)), token

    def sending(self) -> AbstractAsyncContextManager[None]:
        """Sends what is due, as long as the context is open."""
        interval = IDLE_INTERVAL if self._mailer is None else INTERVAL
        return repeating(self.send_due, interval, "invitations cannot be sent")

    async def send_due(self) -> int:
        """Send the invitations that are due, and return how many were taken. Raises Unavailable."""
        await invitations.forget(self._control)
        if self._mailer is None:
            return 0
        for taken in range(AT_ONCE):
            token = secrets.token_urlsafe(32)
            due = await invitations.claim(self._control, token)
            if due is None:
                return taken
            await self._try(self._mailer, due, token)
        return AT_ONCE

    async def _try(self, mailer: Mailer, due: Due, token: str) -> None:
        if due.attempts > ATTEMPTS:
            await self._give_up(due)
            return
        try:
            await mailer.send(self._message(mailer, due, token))
        except (RejectedError, ValueError):
            await self._give_up(due)
        except (OSError, smtplib.SMTPException) as error:
            # The message of the error may have the address.
            _log.warning("identity.invitation_not_sent", error=type(error).__name__, attempt=due.attempts)
        else:
            await invitations.sent(self._control, due)

    async def _give_up(self, due: Due) -> None:
        _log.warning("identity.invitation_given_up", attempts=due.attempts)
        tenant = await self._directory.find(str(due.tenant_id))
        if tenant is not None:
            try:
                await invitations.fail(self._tenants, tenant, due)
            except Refusal as refusal:
                # Later: the next attempt is due until then.
                _log.warning("identity.invitation_not_given_up", reason=refusal.code)

    def _message(self, mailer: Mailer, due: Due, token: str) -> EmailMessage:
        tenant = names.cleaned(due.tenant_name, _MAX_SUBJECT) or "a tenant"
        page = self._url.replace(_TENANT, str(due.tenant_id)).replace(_TOKEN, self._seal.close(token))
        text = (
            f"You are invited to join {tenant}.\n\nTo accept, open this page before"
            f" {format_datetime(due.expires_at)}:\n\n{page}\n\n"
            "The link is for you alone, and works once. If you do not expect this invitation, ignore it.\n"
        )
        return mailer.message(due.email, f"Invitation to {tenant}", text)


def _page(settings: Settings, mailer: Mailer | None) -> str:
    if mailer is None:
        return ""
    url = settings.invitation_url or ""
    try:
        address(url.replace(_TOKEN, "").replace(_TENANT, ""))
    except ValueError:
        url = ""
    if _TOKEN not in url or _TOKEN in urlsplit(url).netloc or not url.isascii() or not url.isprintable():
        raise OperatorError(
            "ISOLA_INVITATION_URL: expected the address of a page with {token} in it, at https://, or http on a"
            " loopback interface, because there is ISOLA_SMTP_URL"
        )
    return url
