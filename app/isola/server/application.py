"""The composition root: builds the server from settings, databases, strategies and the schema."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain

import structlog
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from isola.admin import http as admin_http
from isola.admin.looking import Looking
from isola.admin.staff import StaffVerifier
from isola.api import http, rest
from isola.api.execute import Executor
from isola.api.live.hub import Hub
from isola.api.observation import Observer
from isola.api.rates import Limiter, OfProcess
from isola.api.schema import model
from isola.api.services import Services
from isola.api.undescribed import undescribed
from isola.database.transactions import Database
from isola.errors import BadUserInput, OperatorError
from isola.identity import issuers, openid, passwords as password_file, signing
from isola.identity.api_keys import KeyVerifier, Mint
from isola.identity.branding import Brandings
from isola.identity.choices import SignInChoices
from isola.identity.descendants import Descendants
from isola.identity.federation import Federation
from isola.identity.hosts import Hosts
from isola.identity.invitations import Invitations
from isola.identity.members import Members
from isola.identity.memberships import Memberships
from isola.identity.resolution import Resolution
from isola.identity.revocations import Revocations
from isola.identity.sessions import Sessions
from isola.identity.tokens import TokenVerifier
from isola.installed import APPLICATIONS
from isola.pages import routes as pages
from isola.pages.home import Trial
from isola.platform import logins, migrations, proofs, secrets
from isola.platform.api_keys import ApiKeys
from isola.platform.challenges import Challenges
from isola.platform.changes import Changes
from isola.platform.collation import sorts_by_code_point
from isola.platform.directory import Directory
from isola.platform.domains import Domains
from isola.platform.families import Families
from isola.platform.federation import RemotePartners
from isola.platform.idempotency import forgetting
from isola.platform.lapsing import lapsing
from isola.platform.leases import Leases, emptying
from isola.platform.retention import retaining
from isola.platform.sealing import sealing
from isola.platform.sign_in_log import SignInLog
from isola.platform.span_verification import verifying
from isola.platform.storage import measuring
from isola.platform.watchdog import watching
from isola.query.documents import InvalidError
from isola.query.effort import Effort
from isola.query.limits import Limits
from isola.server import trusted
from isola.server.installation import Installation
from isola.settings import Settings
from isola.telemetry.exposition import Metrics
from isola.telemetry.records import Recorder
from isola.telemetry.resources import Caches, Pools, Records, Subscriptions
from isola.telemetry.traced import TRACED, UNTRACED
from isola.webhooks import endpoints
from isola.webhooks.delivery import Delivery
from isola.webhooks.sealing import Sealer
from isola.webhooks.sending import Sender
from isola.webhooks.signing import Signer

log = structlog.get_logger()

DELIVERING = 2
"""Connections of each login that read events for webhooks, and note deliveries."""
FOLLOWING = 4
"""Connections that read events for subscriptions, so that requests do not wait for them."""


@asynccontextmanager
async def application(
    installed: Installation,
    trials: Sequence[Trial] = (),
    metrics: Metrics | None = None,
    traces: Observer | None = None,
) -> AsyncIterator[ASGIApp]:
    """The server's application, ready for requests; its databases are open as long as the context is.

    The home page of the open profile presents ``trials``. ``metrics`` gets what there is to measure, and
    ``traces`` each request with its timed parts.

    Raises OperatorError when the tenant login could bypass isolation, when the database has not been migrated, and
    for unusable keys; Unavailable when the database cannot be reached.
    """
    settings = installed.settings
    if unnamed := undescribed(model.schema):
        log.warning("parts of the schema have no description", number=len(unnamed), some=unnamed[:20])
    signer = signing.from_settings(settings)
    of_tenants = {**issuers.from_settings(settings), **({signer.name: signer.issuer} if signer else {})}
    tokens = TokenVerifier(of_tenants, settings.token_cache_size)
    of_staff = issuers.of_staff(settings.admin_issuer, of_tenants) if settings.admin_issuer else None
    passwords = password_file.from_settings(settings)
    providers = openid.from_settings(settings)
    hosts = Hosts(settings)
    kinds = UNTRACED if traces is None else TRACED
    async with (
        await installed.control(kind=kinds.database) as control,
        await installed.tenants(kind=kinds.database) as tenants,
    ):
        async with tenants.unbound() as work:
            await logins.refuse_dangerous(work)
        async with control.unbound() as work:
            await migrations.refuse_behind(work)
            await migrations.refuse_unprotected(work)
            secret = await secrets.cursor_secret(work)
            by_code_point = await sorts_by_code_point(work)
            if not await proofs.demanded(work):
                log.warning("transactions need not prove their tenant", danger=proofs.DANGER)
        # Connections of their own: caches are trusted only while changes are received, and requests must not wait for
        # background work.
        async with (
            await installed.control(1) as hearing,
            await installed.control(1) as background,
            await installed.control(2) as following,
            await installed.tenants(FOLLOWING) as reading,
            await installed.control(DELIVERING) as noting,
            await installed.control(1) as recording,
            await installed.tenants(DELIVERING) as delivering,
            # It visits every tenant, and would make the connections of requests forget the homes that they serve.
            await installed.tenants(1) as visiting,
            Changes(hearing) as changes,
            watching(
                control,
                tenants,
                installed.addresses.tenant_login,
                installed.addresses.roles,
                settings.transaction_timeout,
            ),
            ApiKeys(control, changes, settings.directory_ttl) as api_keys,
            SignInLog(control, tenants) as sign_ins,
            _upkeep(background, visiting),
            Recorder.open(recording, settings.request_record_days) as recorder,
        ):
            mint = Mint(secret)
            domains = Domains(control, changes, settings.directory_ttl)
            directory = Directory(control, changes, settings.directory_ttl, migrations.unprotected)
            members = Members(tenants, control, changes, ttl=settings.directory_ttl, first_role=settings.first_role)
            revocations = Revocations(control, changes)
            federation = Federation.open(settings, RemotePartners(control, installed.strategies), sign_ins.refuse)
            families = Families(
                control,
                installed.strategies,
                installed.addresses.roles.family,
                changes,
                sign_ins,
                settings.directory_ttl,
            )
            authenticator = kinds.authenticator(
                Resolution(settings, hosts),
                tokens,
                KeyVerifier(mint, api_keys, sign_ins.refuse),
                directory,
                domains,
                Memberships(control, changes),
                members,
                revocations,
                Descendants(control, changes, settings.directory_ttl),
                sign_ins.refuse,
                default=settings.default_tenant,
                session_issuer=settings.session_issuer,
                families=families,
                partners=federation.verifier if federation else None,
            )
            invitations = Invitations(
                settings, secret=secret, control=background, tenants=visiting, directory=directory
            )
            sessions = Sessions(
                settings,
                secret=secret,
                control=control,
                tenants=tenants,
                directory=directory,
                domains=domains,
                log=sign_ins,
                invitations=invitations,
                signer=signer,
                passwords=passwords,
                providers=providers,
            )
            challenges = Challenges(hosts.reserved, settings.dns_servers, settings.dns_port, control=control)
            choices = SignInChoices(
                directory,
                domains,
                providers if signer else {},
                passwords=signer is not None and passwords is not None,
            )
            delivery = _delivery(settings, secret, noting, delivering, directory)
            services = Services(
                mint,
                challenges,
                sessions,
                choices,
                Brandings(directory, tenants, changes, settings.directory_ttl),
                invitations,
                settings.share_duration,
                delivery,
                federation,
            )
            paths = _paths()
            executor = _executor(
                kinds.executor,
                settings,
                secret,
                services,
                [document for each in paths for document in rest.documents(each)],
                by_code_point=by_code_point,
                sign_ins=sign_ins,
                limiter=Leases(control) if settings.shared_rates else OfProcess(),
            )
            administration: Sequence[BaseRoute] = ()
            if of_staff is not None:
                staff_tokens = TokenVerifier(of_staff, settings.token_cache_size)
                verifier = StaffVerifier(settings, hosts, staff_tokens, revocations)
                administration = admin_http.routes(
                    settings,
                    verifier,
                    Looking(verifier, control, directory, members),
                    executor,
                    tenants,
                    control,
                    installed.strategies,
                )
            # In production there is nothing for browsers.
            browsed = [] if settings.production else pages.routes(trusted.read(settings.trusted_documents), trials)
            further = [*administration, *rest.routes(*paths, settings, authenticator, executor, tenants), *browsed]
            following_feeds = Hub.open(
                executor,
                secret,
                following,
                reading,
                changes,
                most_of_user=settings.max_subscriptions_per_user,
                patience=settings.read_timeout,
            )
            async with following_feeds as hub, invitations.sending(), delivery.delivering():
                pools = {
                    "tenants": tenants,
                    "control": control,
                    "background": background,
                    "subscriptions": reading,
                    "webhooks": delivering,
                }
                yield http.application(
                    settings,
                    authenticator,
                    executor,
                    tenants,
                    control,
                    hub,
                    further,
                    None if settings.production else pages.serve_graphiql,
                    _observers(metrics, recorder, traces, pools, executor, hub),
                    tracing=traces is not None,
                )


@asynccontextmanager
async def _upkeep(background: Database, visiting: Database) -> AsyncIterator[None]:
    async with (
        lapsing(background),
        forgetting(background),
        emptying(background),
        sealing(background),
        verifying(background, visiting),
        retaining(background, visiting),
        measuring(background, visiting),
    ):
        yield


def _observers(
    metrics: Metrics | None,
    recorder: Recorder | None,
    traces: Observer | None,
    pools: Mapping[str, Database],
    executor: Executor,
    hub: Hub,
) -> Sequence[Observer]:
    if metrics is not None:
        metrics.add(Pools(pools), Caches(executor), Subscriptions(hub), Records(recorder))
    return [each for each in (None if metrics is None else metrics.requests, recorder, traces) if each is not None]


def _delivery(
    settings: Settings, secret: bytes, control: Database, tenants: Database, directory: Directory
) -> Delivery:
    resolve = endpoints.resolver(settings.dns_servers, settings.dns_port)
    sender = Sender(resolve, private=settings.webhook_private)
    return Delivery(control, tenants, directory, Signer(secret), Sealer(secret), sender)


def _paths() -> tuple[rest.Paths, rest.Paths]:
    """The paths of the built-in application, which comes first, and those of all others."""
    own, *others = (each.routes for each in APPLICATIONS.values())
    return rest.read(own, model.schema), rest.read(chain.from_iterable(others), model.schema)


def _executor(
    kind: type[Executor],
    settings: Settings,
    secret: bytes,
    services: Services,
    documents: Sequence[str],
    *,
    by_code_point: bool,
    sign_ins: SignInLog,
    limiter: Limiter,
) -> Executor:
    """``documents`` are trusted in addition to those in the settings."""
    known = [*trusted.read(settings.trusted_documents), *documents]
    try:
        return kind(
            model,
            secret=secret,
            services=services,
            limits=Limits(answer_bytes=settings.max_answer_bytes),
            production=settings.production,
            trusted=known,
            trusted_only=settings.trusted_documents_only,
            cache_bytes=settings.document_cache_bytes,
            effort=Effort(rate=settings.document_share),
            kept_bytes=settings.kept_answer_bytes,
            by_code_point=by_code_point,
            note=sign_ins.read_shared,
            note_reads=sign_ins.read_logged,
            limiter=limiter,
        )
    except InvalidError as invalid:
        reasons = "; ".join(error.message for error in invalid.errors)
        raise OperatorError(f"ISOLA_TRUSTED_DOCUMENTS: expected valid documents, but: {reasons}") from invalid
    except BadUserInput as refusal:
        raise OperatorError(f"ISOLA_TRUSTED_DOCUMENTS: {refusal.message}") from refusal
