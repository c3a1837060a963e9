"""The accepted issuers of tokens: the issuer in the settings, and the further ones that they list."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isola.errors import OperatorError
from isola.identity import keys
from isola.identity.keys import Keys
from isola.settings import AdminIssuerSettings, Settings, TokenSettings


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer of tokens. Its keys verify only its own tokens."""

    settings: TokenSettings
    keys: Keys


def from_settings(settings: Settings) -> Mapping[str, Issuer]:
    """Every issuer by the ``iss`` of its tokens.

    Raises OperatorError, naming the setting, for unusable keys and for an issuer or a name that is listed twice.
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
    """The issuer of the platform's staff. It must not be one of the ``others``: no token is valid on both sides.

    Raises OperatorError like ``from_settings``.
    """
    if admin.token_issuer in others:
        raise OperatorError("ISOLA_ADMIN_ISSUER: another issuer has this token_issuer already")
    try:
        return {admin.token_issuer: Issuer(admin, keys.from_settings(admin))}
    except OperatorError as error:
        raise OperatorError(f"ISOLA_ADMIN_ISSUER: {error.message}") from None
