from dataclasses import dataclass

from app.control.challenges import Challenges
from app.identity.api_keys import Mint
from app.identity.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Services:
    """What resolvers need besides the database."""

    mint: Mint
    challenges: Challenges
    sessions: Sessions | None = None
