from dataclasses import dataclass
from datetime import timedelta

from isola.identity.api_keys import Mint
from isola.identity.branding import Brandings
from isola.identity.choices import SignInChoices
from isola.identity.federation import Federation
from isola.identity.invitations import Invitations
from isola.identity.sessions import Sessions
from isola.platform.challenges import Challenges
from isola.webhooks.delivery import Delivery


@dataclass(frozen=True, slots=True)
class Services:
    """What resolvers need besides the database."""

    mint: Mint
    challenges: Challenges
    sessions: Sessions | None = None
    choices: SignInChoices | None = None
    brandings: Brandings | None = None
    invitations: Invitations | None = None
    share_term: timedelta | None = None
    """After which a share ends, if its end is not given."""
    delivery: Delivery | None = None
    federation: Federation | None = None
    """For partners on other installations; None if this one has no name."""
