"""All errors that can be shown to a caller.

IsolaError
├── Refusal               a client's request is not carried out; each has a code
│   ├── Unauthenticated   UNAUTHENTICATED   401
│   │   └── TokenExpired      UNAUTHENTICATED   401
│   ├── Forbidden         FORBIDDEN         403
│   │   ├── FeatureRequired   FEATURE_REQUIRED   403
│   │   ├── TenantSuspended   TENANT_SUSPENDED   403
│   │   └── TenantDeleted     TENANT_DELETED     403
│   ├── NotFound          NOT_FOUND         404
│   ├── BadUserInput      BAD_USER_INPUT    400
│   │   ├── TenantRequired    TENANT_REQUIRED    400
│   │   └── AnswerTooLarge    BAD_USER_INPUT     400
│   ├── Conflict          CONFLICT          409
│   ├── QuotaExceeded     QUOTA_EXCEEDED    429
│   ├── RateLimited       RATE_LIMITED      429
│   └── Unavailable       UNAVAILABLE       503
│       └── Unconfirmed       UNAVAILABLE       503
└── OperatorError         a command or start-up cannot continue; for the operator of the server

Anything else is a bug or a crash. A client sees it as ``INTERNAL`` with a correlation id and nothing else.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class IsolaError(Exception):
    """The message is shown unchanged: it names the error and what was expected, and contains no secret."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def explained(self) -> str:
        """The message for the user of a command."""
        return self.message


class Refusal(IsolaError):  # noqa: N818  a refusal is no fault of the program
    """A refusal with the code that clients see in ``extensions.code``, and the ``reason`` in ``extensions.reason``.

    ``status`` is the HTTP status when a whole request is refused with it. A field that fails inside a response does
    not change the status of that response. The message never contains a value that a client sent. ``field`` is the
    path of the invalid input, such as ``filter.name.eq``, and ``value`` its value: only commands show it, to their
    user. If the database refused a row because of a rule, ``rule`` is the subject of the rule: column names, joined by
    underscores. In a list of inputs, ``index`` is the position of the invalid one, and ``item`` its path, such as
    ``items.3``, to which ``field`` then belongs. ``retry_after`` is the number of seconds after which the same request
    can be retried; None if a retry is useless, or if something may have been done already.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    reason: ClassVar[str | None] = None
    retry_after: int | None = None
    rule: str | None = None
    index: int | None = None
    item: str | None = None

    def __init__(self, message: str, field: str | None = None, *, value: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.value = value

    @property
    def explained(self) -> str:
        return self.message if self.value is None else f"{self.message}: {self.value[:80]!r}"


class Unauthenticated(Refusal):
    code = "UNAUTHENTICATED"
    status = 401


class TokenExpired(Unauthenticated):
    """The token is right in every other way: a new one of its session would be accepted."""

    reason = "TOKEN_EXPIRED"


class Forbidden(Refusal):
    code = "FORBIDDEN"
    status = 403


class FeatureRequired(Forbidden):
    """The tenant's plan lacks a feature. ``plans`` are the names of those that have it, as far as they are offered."""

    code = "FEATURE_REQUIRED"

    def __init__(self, feature: str, plans: Sequence[str] = ()) -> None:
        offered = f", which a tenant has with the plan {' or '.join(plans)}" if plans else ""
        super().__init__(f"this needs the feature {feature}{offered}")
        self.feature = feature
        self.plans = tuple(plans)


class TenantSuspended(Forbidden):
    code = "TENANT_SUSPENDED"


class TenantDeleted(Forbidden):
    code = "TENANT_DELETED"


class NotFound(Refusal):
    code = "NOT_FOUND"
    status = 404


class BadUserInput(Refusal):
    code = "BAD_USER_INPUT"
    status = 400


class TenantRequired(BadUserInput):
    code = "TENANT_REQUIRED"


class AnswerTooLarge(BadUserInput):
    """The requested data has more than ``most`` bytes. ``field`` is where the limit was reached, as ``Type.field``."""

    def __init__(self, most: int, field: str | None = None) -> None:
        prefix = f"{field}: " if field else ""
        super().__init__(f"{prefix}the limit of answer bytes is {most}; ask for smaller pages or for fewer fields")


class Conflict(Refusal):
    code = "CONFLICT"
    status = 409


class QuotaExceeded(Refusal):
    code = "QUOTA_EXCEEDED"
    status = 429


class RateExceeded(NamedTuple):
    """A rate of a plan: ``limit`` in ``window`` seconds, of which ``remaining`` are left."""

    name: str
    limit: int
    window: int
    remaining: int


class RateLimited(Refusal):
    code = "RATE_LIMITED"
    status = 429

    def __init__(self, message: str, retry_after: int | None, exceeded: RateExceeded | None = None) -> None:
        """Without ``retry_after``, the same request is never admitted. ``exceeded`` is the rate of a plan."""
        super().__init__(message)
        self.retry_after = retry_after
        self.exceeded = exceeded


class Unavailable(Refusal):
    """Nothing was done."""

    code = "UNAVAILABLE"
    status = 503
    retry_after: int | None = 1


class Unconfirmed(Unavailable):
    """The requested change may have been made or not."""

    retry_after = None


class OperatorError(IsolaError):
    pass
