"""Settings of the operator, from the environment (``ISOLA_…``) or a ``.env`` file in the working directory."""

import ipaddress
import json
import os
import re
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url

from isola.database.address import normalised
from isola.errors import OperatorError
from isola.shipped import shipped
from isola.subjects.metadata import MAX_DOCUMENT_BYTES
from isola.subjects.permissions import Role


def _is_address(value: SecretStr) -> SecretStr:
    return SecretStr(normalised(value.get_secret_value()))


def _has_user(value: SecretStr) -> SecretStr:
    if not make_url(value.get_secret_value()).username:
        raise ValueError("expected an address with a user: postgresql://user:password@host:port/database")
    return value


def _json(kind: str) -> BeforeValidator:
    def decoded(value: object) -> object:
        # Otherwise the library fails with an error that is not a ValidationError.
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError(f"expected a JSON {kind}") from None

    return BeforeValidator(decoded)


Address = Annotated[SecretStr, AfterValidator(_is_address)]
LoginAddress = Annotated[Address, AfterValidator(_has_user)]


def _is_complete(sources: list[str]) -> list[str]:
    if len(set(sources)) < len(sources) or not {"token", "key"} & set(sources):
        raise ValueError("expected each source at most once, and token or key among them")
    return sources


def _begins_roles(name: str) -> str:
    # PostgreSQL reserves names that begin with pg_.
    if not re.fullmatch("[a-z][a-z0-9_]{0,40}", name) or f"{name}_".startswith("pg_"):
        raise ValueError("expected letters a to z, digits and _, at most 41, with a letter first, and not pg_")
    return name


def _is_host(name: str) -> str:
    if name != name.lower() or name.startswith(".") or name.endswith(".") or ":" in name or not name.isascii():
        raise ValueError("expected a host's name in lower case, without a port and without a dot at either end")
    return name


def _is_network(network: str) -> str:
    try:
        ipaddress.ip_network(network)
    except ValueError:
        raise ValueError("expected networks such as 10.0.0.0/8") from None
    return network


def _is_ip(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError("expected IP addresses") from None
    return address


JsonList = _json("list")
JsonObject = _json("object")
Host = Annotated[str, AfterValidator(_is_host)]
Source = Literal["token", "key", "subdomain", "domain", "header", "path", "query"]


class TokenSettings(BaseModel):
    """The claims in the tokens of one issuer, and the key that verifies them."""

    token_algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] = "HS256"
    token_key: SecretStr | None = Field(default=None, description="HS256 secret, or a public key in PEM")
    token_key_file: Path | None = None
    token_key_id: str | None = Field(default=None, description="the kid of token_key or token_key_file")
    token_jwks_url: str | None = None
    token_jwks_lifetime: float = Field(
        default=300, gt=0, le=86_400, description="time until fetched keys are fetched again"
    )
    token_jwks_cooldown: float = Field(
        default=10, ge=0, description="minimum time between two fetches of keys, after the first five"
    )
    token_issuer: str = Field(default="isola", min_length=1)
    token_audience: str = Field(default="isola", min_length=1)
    token_leeway: float = Field(default=30, ge=0, le=300, description="tolerated clock difference for exp, nbf and iat")
    token_tenant_required: bool = Field(default=True, description="off: the request may name the tenant")
    token_tenants: Annotated[frozenset[str] | None, NoDecode, JsonList] = Field(
        default=None, description="slugs or ids of the tenants that tokens may name, as a JSON list; by default all"
    )
    token_roles: bool = Field(default=True, description="off: the claim of the role is ignored")
    claim_tenant: str = "tenant"
    claim_user: str = "sub"
    claim_role: str = "role"
    claim_name: str = "name"
    claim_email: str = "email"
    claim_email_verified: str = Field(
        default="email_verified", description="the claim that must be true for the e-mail address to be stored"
    )

    @property
    def namespace(self) -> str:
        """The prefix of this issuer's subjects, so that subjects of different issuers never collide."""
        return ""

    @property
    def speaks_for_all(self) -> bool:
        """Whether its subjects already have the namespace of their original issuer."""
        return False


class IssuerSettings(TokenSettings):
    """A further issuer. Omitted settings have their defaults; the leeway defaults to that of the first issuer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="part of its users' subjects: never change it")
    token_issuer: str = Field(min_length=1)
    token_audience: str = Field(min_length=1)

    @property
    def namespace(self) -> str:
        return f"iss:{self.name}:"


class AdminIssuerSettings(TokenSettings):
    """The issuer of the platform's staff. Its tokens have no tenant or role, and are valid only for administration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_issuer: str = Field(min_length=1)
    token_audience: str = Field(min_length=1)
    token_tenant_required: Literal[False] = False
    token_tenants: None = None
    token_roles: Literal[False] = False

    @property
    def namespace(self) -> str:
        return "staff:"


class ProviderSettings(BaseModel):
    """An OpenID Connect provider for sign-in. It vouches for the listed tenants only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="part of its users' subjects: never change it")
    issuer: str = Field(min_length=1, description="its address, exactly as in its claim iss")
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = Field(default=None, description="not set for a public client")
    redirect_uris: frozenset[str] = Field(min_length=1, description="allowed redirect URIs")
    tenants: frozenset[str] = Field(
        min_length=1, description="slugs or ids of the tenants whose users it authenticates"
    )
    role: Role = Field(default=Role.VIEWER, description="the role of users who sign in for the first time")

    @property
    def namespace(self) -> str:
        """The same as for tokens of an issuer with this name."""
        return f"iss:{self.name}:"


class Settings(BaseSettings, TokenSettings):
    """All settings. Times are in seconds. Those of tokens are in TokenSettings."""

    model_config = SettingsConfigDict(env_prefix="ISOLA_", env_file=".env", extra="ignore", frozen=True)

    # --- HTTP
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    shutdown_grace: float = Field(
        default=10, gt=0, le=3600, description="how long accepted requests may take after SIGTERM"
    )
    production: bool = Field(
        default=False, description="no introspection, no pages for browsers, no suggestions in errors, no GET"
    )
    max_body_bytes: int = Field(default=1_000_000, gt=0)
    max_head_bytes: int = Field(default=32_768, ge=1024, description="maximum size of the request line and all headers")
    max_headers: int = Field(default=100, ge=10)
    head_timeout: float = Field(default=10, gt=0, description="how long the head of a request may take to arrive")
    body_timeout: float = Field(default=30, gt=0, description="how long the body of a request may take to arrive")
    read_timeout: float = Field(default=30, gt=0, description="how long a client may stop reading its response")
    keep_alive: int = Field(
        default=75, ge=0, description="how long an idle connection stays open; longer than in the proxy in front"
    )
    max_connections: int | None = Field(
        default=None, ge=1, description="connections of clients; by default 10,000; bounded by the limit of open files"
    )
    max_subscriptions_per_connection: int = Field(default=100, ge=1, description="operations at once on one WebSocket")
    max_subscriptions_per_user: int = Field(default=1000, ge=1, description="subscriptions of one user per process")
    compress_from: int | None = Field(
        default=4096, ge=256, description="size in bytes from which responses to queries are compressed; null: never"
    )
    document_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="share of the server thread's time that one tenant may use to compile new documents and statements",
    )
    document_cache_bytes: int = Field(
        default=30 * 1024 * 1024, ge=3 * 1024 * 1024, description="memory for documents of clients and for statements"
    )
    max_answer_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=MAX_DOCUMENT_BYTES + 1_048_576,
        le=256 * 1024 * 1024,
        description="maximum size of the data in a response; PostgreSQL needs about ten times this memory to build it",
    )
    kept_answer_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="size of the first answers to mutations with idempotency keys that a tenant may have per process",
    )
    shared_rates: bool = Field(
        default=True,
        description="whether rates of plans are those of all servers together; false: of each process",
    )
    cors_origins: Annotated[list[str], NoDecode, JsonList] = Field(
        default=[], description="allowed origins of web pages, as a JSON list"
    )
    cors_headers: Annotated[list[str], NoDecode, JsonList] = Field(
        default=[], description="additional request headers allowed for web pages, as a JSON list"
    )
    cors_max_age: int = Field(default=600, ge=0, description="how long browsers may cache a preflight response")
    hosts: Annotated[list[Host], NoDecode, JsonList] = Field(
        default=[], description="the server's host names, besides localhost, loopback addresses and host"
    )
    platform_domain: Host | None = Field(default=None, description="tenants are subdomains of it")
    trusted_proxies: Annotated[list[Annotated[str, AfterValidator(_is_network)]], NoDecode, JsonList] = Field(
        default=[], description="networks of proxies whose X-Forwarded-Host and Forwarded are trusted, as a JSON list"
    )
    trusted_documents: Path = Field(
        default=shipped("graphql") / "operations",
        description="a directory of documents and manifests that are compiled at start-up",
    )
    trusted_documents_only: bool = Field(default=False, description="refuse all other documents")

    # --- Metrics
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="the port of /metrics, for Prometheus; off if not set"
    )
    metrics_host: str = Field(default="127.0.0.1", description="where /metrics listens: never for strangers")

    otlp: bool = Field(
        default=False,
        description="send traces and metrics by OTLP over HTTP, as the variables OTEL_… say: needs isola[otel]",
    )

    request_record_days: int | None = Field(
        default=None,
        ge=1,
        le=366,
        description="days that records of requests are kept; if not set, requests and their metrics by tenant and hour "
        "are not recorded",
    )

    # --- Database. Without any address the server runs its own PostgreSQL in data_dir.
    data_dir: Path = Field(default=Path(".isola"), description="where the embedded PostgreSQL keeps its data")
    embedded: bool | None = Field(
        default=None, description="run an embedded PostgreSQL if no address is set; by default on, except in production"
    )
    database_url: Address | None = Field(default=None, description="the owner's login: migrations, new tenants")
    tenant_url: LoginAddress | None = Field(default=None, description="the login of tenant traffic")
    control_url: LoginAddress | None = Field(default=None, description="the login of the control plane")
    roles: Annotated[str, AfterValidator(_begins_roles)] = Field(
        default="isola",
        description="prefix of this installation's database roles; must differ between owners in one cluster",
    )
    pool_size: int = Field(default=10, ge=1, le=1000, description="connections for tenant traffic per process")
    pool_wait: float = Field(default=2.0, gt=0, le=3600, description="how long a request waits for a connection")
    statement_timeout: float = Field(default=10.0, ge=0.001, le=86_400)
    transaction_timeout: float = Field(
        default=60.0, ge=0.1, le=86_400, description="maximum duration of a transaction inside a tenant"
    )
    statement_cache: bool = Field(default=True, description="reuse prepared statements where that is safe")

    # --- Tenants
    applications: str | None = Field(
        default=None,
        description="the applications to serve, separated by commas: names of installed ones, or "
        "package.module:attribute; by default all installed ones",
    )
    strategy: str = Field(default="rls", description="the strategy of new tenants")
    directory_ttl: float = Field(default=60, ge=0, le=3600, description="how long tenants are cached at most")
    tenant_sources: Annotated[list[Source], NoDecode, JsonList, AfterValidator(_is_complete)] = Field(
        default=["token", "key", "subdomain", "domain", "header", "path", "query"],
        description="the parts of a request that may name the tenant, as a JSON list; others are refused",
    )
    default_tenant: str | None = Field(default=None, description="slug or id of the tenant of requests that name none")
    dns_servers: Annotated[list[Annotated[str, AfterValidator(_is_ip)]], NoDecode, JsonList] = Field(
        default=[],
        description="IP addresses of DNS servers for verifying custom domains, as a JSON list; by default the system's",
    )
    dns_port: int = Field(default=53, ge=1, le=65535)

    # --- Tokens: the first issuer's settings are in TokenSettings
    token_cache_size: int = Field(default=10_000, ge=1, description="how many verified tokens are cached")
    new_user_role: Role | Literal["none"] | None = Field(
        default=None,
        description="the role of new users whose token names no role; by default none in production, else editor",
    )
    issuers: Annotated[list[IssuerSettings], NoDecode, JsonList] = Field(
        default=[], description="further issuers, as a JSON list of objects with the settings of IssuerSettings"
    )

    # --- Platform administration
    admin_issuer: Annotated[AdminIssuerSettings | None, NoDecode, JsonObject] = Field(
        default=None,
        description="a JSON object with the settings of AdminIssuerSettings; if not set, administration is off",
    )

    # --- Sessions of people, whose tokens this server signs itself
    session_key_file: Path | None = Field(
        default=None, description="a private key in PEM, Ed25519 or P-256; by default the development key"
    )
    session_issuer: str = Field(default="isola/sessions", min_length=1, max_length=255)
    session_token_ttl: float = Field(default=600, ge=10, le=3600, description="lifetime of an access token")
    session_idle: float = Field(default=7 * 86_400, ge=60, description="lifetime of a session without a refresh")
    session_lifetime: float = Field(default=30 * 86_400, ge=60, description="maximum lifetime of a session")
    session_reuse_interval: float = Field(
        default=10, ge=0, le=60, description="how long after its use a refresh token gets the same next token again"
    )
    session_cookie_tenants: Annotated[frozenset[str], NoDecode, JsonList] = Field(
        default=frozenset(),
        description="slugs or ids of the tenants whose sessions may have a cookie, as a JSON list; * for all",
    )
    sign_in_providers: Annotated[list[ProviderSettings], NoDecode, JsonList] = Field(
        default=[], description="a JSON list of objects with the settings of ProviderSettings"
    )
    development_passwords: Path | None = Field(
        default=None, description="a JSON file of users who sign in with a password; refused in production"
    )

    # --- Invitations by e-mail
    smtp_url: SecretStr | None = Field(
        default=None,
        description="the mail server, smtps://user:password@host:port, or smtp:// for STARTTLS; off if not set",
    )
    mail_from: str | None = Field(default=None, description="the sender of e-mail, as an address or Name <address>")
    invitation_url: str | None = Field(
        default=None, description="the page that accepts invitations, with {token} and optionally {tenant} in it"
    )
    invitation_lifetime: float = Field(
        default=7 * 86_400, ge=60, le=30 * 86_400, description="how long an invitation can be accepted"
    )

    # --- Shares
    share_term: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="days after which a share ends if its end is not given; if not set, it does not end by itself",
    )

    # --- Partners on other installations
    installation: str | None = Field(
        default=None, description="the address by which other installations know this one; off if not set"
    )
    federation_key_file: Path | None = Field(
        default=None, description="a private key in PEM, Ed25519 or P-256, that signs tokens for other installations"
    )

    # --- Webhooks
    webhook_private: bool = Field(
        default=False, description="let tenants' webhooks reach private addresses, with http as well: only for tests"
    )

    @property
    def share_duration(self) -> timedelta | None:
        """After which a share ends if its end is not given; None if it does not."""
        return None if self.share_term is None else timedelta(days=self.share_term)

    @property
    def first_role(self) -> Role | None:
        """The role of new users whose token names no role; None for no role."""
        if self.new_user_role is None:
            return None if self.production else Role.EDITOR
        return None if self.new_user_role == "none" else self.new_user_role


def _refuse_unknown() -> None:
    names = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    valid = {f"ISOLA_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in names if name.startswith("ISOLA_") and name not in valid)
    if unknown:
        close = {name: get_close_matches(name, valid, n=1) for name in unknown}
        listed = ", ".join(
            f"{name} (did you mean {matches[0]}?)" if matches else name for name, matches in close.items()
        )
        raise OperatorError(f"unknown settings: {listed}")


def load() -> Settings:
    """Load the settings of this process.

    Raises OperatorError naming every invalid setting, without its value, which may be a secret. Unknown variables are
    refused as well: a misspelled name would leave a default in place.
    """
    _refuse_unknown()
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"ISOLA_{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise OperatorError(f"invalid settings: {wrong}") from None
