"""Settings of the operator, from the environment (``ISOLA_…``) or a ``.env`` file in the working directory."""

import ipaddress
import json
import os
import re
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
    token_key_id: str | None = Field(default=None, description="the kid that tokens may name for token_key(_file)")
    token_jwks_url: str | None = None
    token_jwks_lifetime: float = Field(default=300, gt=0, le=86_400, description="how long fetched keys count as fresh")
    token_jwks_cooldown: float = Field(
        default=10, ge=0, description="least time between two fetches of keys, after the first five"
    )
    token_issuer: str = Field(default="isola", min_length=1)
    token_audience: str = Field(default="isola", min_length=1)
    token_leeway: float = Field(
        default=30, ge=0, le=300, description="how far the issuer's clock may be off, for exp, nbf and iat"
    )
    token_tenant_required: bool = Field(default=True, description="off: a token may leave it to the request")
    token_tenants: Annotated[frozenset[str] | None, NoDecode, JsonList] = Field(
        default=None, description="slugs or ids of the tenants that tokens may name, as a JSON list; all unless given"
    )
    token_roles: bool = Field(default=True, description="off: what tokens say of roles counts for nothing")
    claim_tenant: str = "tenant"
    claim_user: str = "sub"
    claim_role: str = "role"
    claim_name: str = "name"
    claim_email: str = "email"
    claim_email_verified: str = Field(
        default="email_verified", description="the claim that has to be true for the address to be kept"
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
    issuer: str = Field(min_length=1, description="its address, as it says itself in iss")
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = Field(default=None, description="none for a public client")
    redirect_uris: frozenset[str] = Field(min_length=1, description="where it may send people back to")
    tenants: frozenset[str] = Field(min_length=1, description="slugs or ids of the tenants whose people it knows")
    role: Role = Field(default=Role.VIEWER, description="what people are given when they come in for the first time")

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
    production: bool = Field(default=False, description="no introspection, no IDE, no suggestions in errors, no GET")
    max_body_bytes: int = Field(default=1_000_000, gt=0)
    max_head_bytes: int = Field(default=32_768, ge=1024, description="of a request: its line and all of its headers")
    max_headers: int = Field(default=100, ge=10)
    head_timeout: float = Field(default=10, gt=0, description="how long the head of a request may take to arrive")
    body_timeout: float = Field(default=30, gt=0, description="how long the body of a request may take to arrive")
    read_timeout: float = Field(default=30, gt=0, description="how long a client may read nothing of its answer")
    keep_alive: int = Field(
        default=75, ge=0, description="how long an idle connection stays open; longer than in the proxy in front"
    )
    max_connections: int | None = Field(
        default=None, ge=1, description="of clients; 10,000 unless given; no more than the limit of open files leaves"
    )
    compress_from: int | None = Field(
        default=4096, ge=256, description="bytes of an answer to a query from which on it is compressed; null: never"
    )
    document_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="of the server's thread that one tenant may take for documents and statements that are new",
    )
    document_cache_bytes: int = Field(
        default=30 * 1024 * 1024, ge=3 * 1024 * 1024, description="for documents that clients sent, and statements"
    )
    max_answer_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=MAX_DOCUMENT_BYTES + 1_048_576,
        le=256 * 1024 * 1024,
        description="of the data in an answer; PostgreSQL takes about ten times as much memory to build it",
    )
    cors_origins: Annotated[list[str], NoDecode, JsonList] = Field(
        default=[], description="origins of web pages that may call, as a JSON list"
    )
    cors_headers: Annotated[list[str], NoDecode, JsonList] = Field(
        default=[], description="further headers that such pages may send, as a JSON list"
    )
    cors_max_age: int = Field(default=600, ge=0, description="how long browsers remember what such pages may do")
    hosts: Annotated[list[Host], NoDecode, JsonList] = Field(
        default=[], description="the server's own names, besides localhost, loopback addresses and host"
    )
    platform_domain: Host | None = Field(default=None, description="tenants are subdomains of it")
    trusted_proxies: Annotated[list[Annotated[str, AfterValidator(_is_network)]], NoDecode, JsonList] = Field(
        default=[], description="networks of proxies whose X-Forwarded-Host and Forwarded are believed, as a JSON list"
    )
    trusted_documents: Path = Field(
        default=shipped("graphql") / "operations",
        description="a directory of documents that are compiled at start-up",
    )
    trusted_documents_only: bool = Field(default=False, description="admit no other documents")

    # --- Database. Without any address the server runs its own PostgreSQL in data_dir.
    data_dir: Path = Field(default=Path(".isola"), description="where the embedded PostgreSQL keeps its data")
    embedded: bool | None = Field(
        default=None, description="run an embedded PostgreSQL where no address is set; unless given, not in production"
    )
    database_url: Address | None = Field(default=None, description="the owner's address: migrations, tenants")
    tenant_url: LoginAddress | None = Field(default=None, description="the login of tenant traffic")
    control_url: LoginAddress | None = Field(default=None, description="the login of the control plane")
    roles: Annotated[str, AfterValidator(_begins_roles)] = Field(
        default="isola",
        description="what the names of this installation's roles begin with: another for each owner in a cluster",
    )
    pool_size: int = Field(default=10, ge=1, le=1000, description="connections for tenant traffic, a process")
    pool_wait: float = Field(default=2.0, gt=0, le=3600, description="how long a request waits for a connection")
    statement_timeout: float = Field(default=10.0, ge=0.001, le=86_400)
    transaction_timeout: float = Field(
        default=60.0, ge=0.1, le=86_400, description="how long a transaction inside a tenant may last, whatever it does"
    )
    statement_cache: bool = Field(default=True, description="keep statements prepared, where that is safe")

    # --- Tenants
    applications: str | None = Field(
        default=None,
        description="the applications that are served, separated by commas: names of installed ones, or "
        "package.module:attribute; all that are installed where this is not set",
    )
    strategy: str = Field(default="rls", description="where new tenants are placed")
    directory_ttl: float = Field(default=60, ge=0, le=3600, description="how long a tenant is remembered at most")
    tenant_sources: Annotated[list[Source], NoDecode, JsonList, AfterValidator(_is_complete)] = Field(
        default=["token", "key", "subdomain", "domain", "header", "path", "query"],
        description="where a tenant may be named, as a JSON list; what is left out is not accepted",
    )
    default_tenant: str | None = Field(default=None, description="slug or id, where nothing in a request names one")
    dns_servers: Annotated[list[Annotated[str, AfterValidator(_is_ip)]], NoDecode, JsonList] = Field(
        default=[], description="addresses that are asked for proofs of custom domains; the system's unless given"
    )
    dns_port: int = Field(default=53, ge=1, le=65535)

    # --- Tokens: the first issuer's settings are in TokenSettings
    token_cache_size: int = Field(default=10_000, ge=1, description="how many verified tokens are remembered")
    new_user_role: Role | Literal["none"] | None = Field(
        default=None,
        description="of who comes in for the first time with a token that names no role; "
        "unless given none in production, else editor",
    )
    issuers: Annotated[list[IssuerSettings], NoDecode, JsonList] = Field(
        default=[], description="further issuers, as a JSON list of objects with the settings of IssuerSettings"
    )

    # --- Platform administration
    admin_issuer: Annotated[AdminIssuerSettings | None, NoDecode, JsonObject] = Field(
        default=None,
        description="as a JSON object with the settings of AdminIssuerSettings; without it there is no administration",
    )

    # --- Sessions of people, whose tokens this server signs itself
    session_key_file: Path | None = Field(
        default=None, description="a private key in PEM, Ed25519 or P-256; without it, the development key"
    )
    session_issuer: str = Field(default="isola/sessions", min_length=1, max_length=255)
    session_token_ttl: float = Field(default=600, ge=10, le=3600, description="how long an access token is good")
    session_idle: float = Field(default=7 * 86_400, ge=60, description="how long a session lasts without a refresh")
    session_lifetime: float = Field(default=30 * 86_400, ge=60, description="how long a session lasts at most")
    sign_in_providers: Annotated[list[ProviderSettings], NoDecode, JsonList] = Field(
        default=[], description="as a JSON list of objects with the settings of ProviderSettings"
    )
    development_passwords: Path | None = Field(
        default=None, description="a JSON file of people who sign in with a password; refused in production"
    )

    @property
    def first_role(self) -> Role | None:
        """The role on first entry with a token without one; None for no role."""
        if self.new_user_role is None:
            return None if self.production else Role.EDITOR
        return None if self.new_user_role == "none" else self.new_user_role


def _refuse_unknown() -> None:
    names = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    known = {f"ISOLA_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in names if name.startswith("ISOLA_") and name not in known)
    if unknown:
        close = {name: get_close_matches(name, known, n=1) for name in unknown}
        said = ", ".join(f"{name} (meant: {found[0]}?)" if found else name for name, found in close.items())
        raise OperatorError(f"there are no such settings: {said}")


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
        raise OperatorError(f"settings that make no sense: {wrong}") from None
