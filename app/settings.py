"""What an operator can set, from the environment (``ISOLA_…``) or a ``.env`` file in the working directory."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.errors import OperatorError


def _is_address(value: SecretStr) -> SecretStr:
    try:
        scheme = make_url(value.get_secret_value()).drivername
    except (ArgumentError, ValueError):
        scheme = ""
    if scheme not in {"postgresql", "postgres"}:
        raise ValueError("expected postgresql://user:password@host:port/database")
    return value


def _has_user(value: SecretStr) -> SecretStr:
    if not make_url(value.get_secret_value()).username:
        raise ValueError("expected an address with a user: postgresql://user:password@host:port/database")
    return value


def _decoded(value: object) -> object:
    # Left to the library, this fails with an error that is not a ValidationError.
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("expected a JSON list") from None


Address = Annotated[SecretStr, AfterValidator(_is_address)]
LoginAddress = Annotated[Address, AfterValidator(_has_user)]


class Settings(BaseSettings):
    """All settings. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="ISOLA_", env_file=".env", extra="ignore", frozen=True)

    # --- HTTP
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    shutdown_grace: float = Field(
        default=10, gt=0, le=3600, description="how long accepted requests may take after SIGTERM"
    )
    production: bool = Field(default=False, description="no introspection, no IDE, no suggestions in errors")
    max_body_bytes: int = Field(default=1_000_000, gt=0)
    cors_origins: Annotated[list[str], NoDecode, BeforeValidator(_decoded)] = Field(
        default=[], description="origins of web pages that may call, as a JSON list"
    )
    trusted_documents: Path = Field(
        default=Path(__file__).parents[1] / "graphql" / "operations",
        description="a directory of documents that are compiled at start-up",
    )
    trusted_documents_only: bool = Field(default=False, description="admit no other documents")

    # --- Database. Without any address the server runs its own PostgreSQL in data_dir.
    data_dir: Path = Field(default=Path(".isola"), description="where the embedded PostgreSQL keeps its data")
    database_url: Address | None = Field(default=None, description="the owner's address: migrations, tenants")
    tenant_url: LoginAddress | None = Field(default=None, description="the login of tenant traffic")
    control_url: LoginAddress | None = Field(default=None, description="the login of the control plane")
    pool_size: int = Field(default=10, ge=1, le=1000, description="connections for tenant traffic, a process")
    pool_wait: float = Field(default=2.0, gt=0, le=3600, description="how long a request waits for a connection")
    statement_timeout: float = Field(default=10.0, ge=0.001, le=86_400)
    statement_cache: bool = Field(default=True, description="off for PgBouncer before 1.21 in transaction mode")

    # --- Tenants
    strategy: str = Field(default="rls", description="where new tenants are placed")
    directory_ttl: float = Field(default=2.0, ge=0, le=60, description="how old a tenant's status may be")

    # --- Tokens
    token_algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] = "HS256"
    token_key: SecretStr | None = Field(default=None, description="HS256 secret, or a public key in PEM")
    token_key_file: Path | None = None
    token_key_id: str | None = Field(default=None, description="the kid that tokens may name for token_key(_file)")
    token_jwks_url: str | None = None
    token_jwks_lifetime: float = Field(default=300, gt=0, le=86_400, description="how long fetched keys count as fresh")
    token_jwks_cooldown: float = Field(default=10, ge=0, description="least time between two fetches of keys")
    token_cache_size: int = Field(default=10_000, ge=1, description="how many verified tokens are remembered")
    token_issuer: str = Field(default="isola", min_length=1)
    token_audience: str = Field(default="isola", min_length=1)
    token_leeway: float = Field(default=0, ge=0, le=300)
    claim_tenant: str = "tenant"
    claim_user: str = "sub"
    claim_role: str = "role"
    claim_name: str = "name"
    claim_email: str = "email"


def load() -> Settings:
    """The settings of this process.

    Raises OperatorError naming every setting that makes no sense, its value left out: it may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"ISOLA_{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise OperatorError(f"settings that make no sense: {wrong}") from None
