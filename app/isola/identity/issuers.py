"""Who may sign tokens: the issuer that the settings describe, and those that they list beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isola.errors import OperatorError
from isola.identity import keys
from isola.identity.keys import Keys
from isola.settings import AdminIssuerSettings, Settings, TokenSettings


@dataclass(frozen=True, slots=True)
class Issuer:
    """One that signs tokens. Its keys verify its own tokens and nobody else's."""

    settings: TokenSettings
    keys: Keys


def from_settings(settings: Settings) -> Mapping[str, Issuer]:
    """Every issuer by what its tokens say in ``iss``.

    Raises OperatorError, naming the setting, for keys that cannot be used and for an issuer or a name that is listed
    twice.
    """
    issuers = {settings.token_issuer: Issuer(settings, keys.from_settings(settings))}
    names: set[str] = set()
    for each in settings.issuers:
        if each.token_issuer in issuers or each.name in names:
            raise OperatorError(f"ISOLA_ISSUERS, {each.name}: another issuer has this name or token_issuer already")
        inherited = {} if "token_leeway" in each.model_fields_set else {"token_leeway": settings.token_leeway}
        further = each.model_copy(update=inherited)
        try:
            issuers[each.token_issuer] = Issuer(further, keys.from_settings(further))
        except OperatorError as error:
            raise OperatorError(f"ISOLA_ISSUERS, {each.name}: {error.message}") from None
        names.add(each.name)
    return issuers


def of_staff(admin: AdminIssuerSettings, others: Iterable[str]) -> Mapping[str, Issuer]:
    """The issuer of the platform's staff, which is none of the ``others``: no token is good on both sides.

    Raises OperatorError as ``from_settings``.
    """
    if admin.token_issuer in others:
        raise OperatorError("ISOLA_ADMIN_ISSUER: another issuer has this token_issuer already")
    try:
        return {admin.token_issuer: Issuer(admin, keys.from_settings(admin))}
    except OperatorError as error:
        raise OperatorError(f"ISOLA_ADMIN_ISSUER: {error.message}") from None
