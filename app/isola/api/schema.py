"""The whole schema, with the queries and mutations of every subject, and the model that its types declare."""

from typing import Any

import strawberry
from graphql import OperationType
from strawberry.exceptions import DuplicatedTypeName, StrawberryException
from strawberry.schema.config import StrawberryConfig
from strawberry.types import get_object_definition
from strawberry.utils.str_converters import to_camel_case

from isola.api.connections import NodeQueries
from isola.api.declared import declare
from isola.api.descriptions import complete
from isola.api.fields import mapped
from isola.api.inputs import guard
from isola.api.live.directive import live
from isola.api.metrics import MetricsQueries
from isola.api.model import model_of
from isola.api.scalars import SCALARS
from isola.api.viewer import ViewerQueries
from isola.errors import OperatorError
from isola.installed import APPLICATIONS, SUBJECTS
from isola.query import caller
from isola.query.mapping import MappingError, Parameters
from isola.subjects import features, permissions
from isola.subjects.api_keys.fields import ApiKeyMutations, ApiKeyQueries
from isola.subjects.audit.fields import AuditMutations, AuditQueries
from isola.subjects.domains.fields import DomainMutations, DomainQueries
from isola.subjects.federation.fields import FederationMutations, FederationQueries
from isola.subjects.flags.fields import FlagQueries
from isola.subjects.incidents.fields import IncidentQueries
from isola.subjects.invitations.fields import InvitationMutations, InvitationQueries
from isola.subjects.organizations.fields import OrganizationMutations
from isola.subjects.partnerships.fields import PartnershipMutations, PartnershipQueries
from isola.subjects.roles.fields import RoleMutations
from isola.subjects.sessions.fields import OPEN, SessionMutations, SignInMutations, SignInQueries
from isola.subjects.shares.comments.fields import ShareCommentMutations
from isola.subjects.shares.fields import ShareMutations, ShareQueries
from isola.subjects.shares.rules.fields import ShareRuleMutations, ShareRuleQueries
from isola.subjects.spans.fields import SpanQueries
from isola.subjects.tickets.fields import TicketMutations
from isola.subjects.tiers.fields import TierQueries
from isola.subjects.usage.fields import UsageMutations, UsageQueries
from isola.subjects.users.fields import UserMutations
from isola.subjects.webhooks.fields import WebhookMutations, WebhookQueries

__all__ = ["model", "schema"]


def _root(name: str, *parts: Any) -> type:
    """A type with the fields of all parts, in order. Raises OperatorError for a field that two parts define."""
    seen: set[str] = set()
    for part in parts:
        definition = get_object_definition(part)
        if definition is None:
            raise OperatorError(f"{part.__module__}.{part.__qualname__}: expected a class with @strawberry.type")
        names = {to_camel_case(each.name) for each in definition.fields}
        if names & seen:
            raise OperatorError(f"two subjects or applications have the field {min(names & seen)!r} of {name}")
        seen |= names
    # Strawberry lists fields in the reverse order of the bases.
    made: type = strawberry.type(type(name, tuple(reversed(parts)), {"__module__": __name__}))
    return made


_declared = declare(SUBJECTS)
_applications = list(APPLICATIONS.values())

Query = mapped(Parameters(caller.COLUMNS))(
    _root(
        "Query",
        ViewerQueries,
        NodeQueries,
        *(each.queries for each in _declared),
        ShareQueries,
        ShareRuleQueries,
        PartnershipQueries,
        FederationQueries,
        DomainQueries,
        ApiKeyQueries,
        AuditQueries,
        SpanQueries,
        SignInQueries,
        InvitationQueries,
        WebhookQueries,
        UsageQueries,
        TierQueries,
        FlagQueries,
        MetricsQueries,
        IncidentQueries,
        *(part for each in _applications for part in each.queries),
    )
)
Mutation = _root(
    "Mutation",
    *(each.mutations for each in _declared if each.mutations is not None),
    ShareMutations,
    ShareRuleMutations,
    ShareCommentMutations,
    PartnershipMutations,
    FederationMutations,
    OrganizationMutations,
    UserMutations,
    RoleMutations,
    DomainMutations,
    ApiKeyMutations,
    SignInMutations,
    InvitationMutations,
    SessionMutations,
    TicketMutations,
    WebhookMutations,
    UsageMutations,
    AuditMutations,
    *(part for each in _applications for part in each.mutations),
)

Subscription = _root("Subscription", *(each.subscriptions for each in _declared))

try:
    schema = strawberry.Schema(
        Query, Mutation, Subscription, directives=[live], config=StrawberryConfig(scalar_map=SCALARS)
    )
except DuplicatedTypeName as error:
    raise OperatorError(
        f"{error.message}: subjects, enums and the types generated from them share one namespace"
    ) from error
except (StrawberryException, TypeError) as error:
    raise OperatorError(f"the schema is invalid: {error}") from error
try:
    model = model_of(schema)
except MappingError as error:
    raise OperatorError(str(error)) from error
for _place, _needed in model.requires.items():
    _features = {each for each in _needed if ":" not in each}
    if _unknown := _features - features.known().keys():
        raise OperatorError(
            f"{_place}: there is no feature {min(_unknown)!r}: expected one of {', '.join(sorted(features.known()))}"
        )
    if _unknown := set(_needed) - _features - (_known := permissions.all_permissions()):
        _wrong = min(_unknown)
        _like = sorted(each for each in _known if each.partition(":")[0] == _wrong.partition(":")[0])
        raise OperatorError(
            f"{_place}: there is no permission {_wrong!r}" + (f": expected one of {', '.join(_like)}" if _like else "")
        )
for _name, _entity in model.entities.items():
    _other = model.by_prefix.get(_entity.prefix or "", _name)
    if _other != _name:
        raise OperatorError(f"ids of {_name} and of {_other} begin with {_entity.prefix!r}: expected two prefixes")
guard(model.schema.mutation_type, unchecked=OPEN[OperationType.MUTATION])
complete(model.schema, model.requires, SUBJECTS)
