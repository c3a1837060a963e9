"""How a tenant presents itself: its name to show, colours and logo, also before sign-in. See docs/settings.md."""

import re

from isola.errors import BadUserInput
from isola.subjects import Subject, column, names
from isola.subjects.actor import Actor
from isola.subjects.declaration import field_of
from isola.subjects.work import Work

MAX_NAME = 100
MAX_LOGO = 500
COLOURS = ("primary_colour", "secondary_colour", "background_colour", "text_colour")
_COLOUR = re.compile("#[0-9a-f]{6}")
# A host, and printable ASCII without what could end an attribute or a url() of a page.
_LOGO = re.compile("https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&*+,;=:@/?-]*)?")


class Branding(Subject, name="branding", prefix="bnd", settings=True):
    """How the tenant presents itself to its users."""

    name: str | None = column(max_length=MAX_NAME, min_length=1, description="The name to show.")
    primary_colour: str = column(max_length=7, default="#1f4e8c", description="Of buttons and links, as `#rrggbb`.")
    secondary_colour: str = column(max_length=7, default="#5b6b7f", description="Of what is less important.")
    background_colour: str = column(max_length=7, default="#ffffff", description="Of the page.")
    text_colour: str = column(max_length=7, default="#1a1a1a", description="Of text on the page.")
    logo: str | None = column(max_length=MAX_LOGO, description="The address of an image: a URL of https.")

    checks = {  # noqa: RUF012
        **{f"{each}_form": f"{each} ~ '^{_COLOUR.pattern}$'" for each in COLOURS},
        "logo_form": f"logo ~ '^{_LOGO.pattern}$'",
    }
    samples = {  # noqa: RUF012
        **{each: lambda random, _: f"#{random.getrandbits(24):06x}" for each in COLOURS},
        "logo": lambda random, _: f"https://images.example/{random.getrandbits(32):08x}.png",
    }

    async def before_create(self, work: Work, actor: Actor) -> None:  # noqa: ARG002  required by the interface
        """Colours and the logo have a form that is safe in pages; a name has only visible characters."""
        if self.name is not None:
            self.name = names.checked("name", self.name, MAX_NAME)
        for field in COLOURS:
            colour = getattr(self, field).lower()
            if not _COLOUR.fullmatch(colour):
                raise BadUserInput(f"{field_of(field)}: expected a colour such as #1f4e8c", field_of(field))
            setattr(self, field, colour)
        if self.logo is not None and not _LOGO.fullmatch(self.logo):
            raise BadUserInput("logo: expected a URL of https, such as https://images.example/logo.png", "logo")
