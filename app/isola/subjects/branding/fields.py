import strawberry

from isola.api.access import PUBLIC


@strawberry.type(directives=[PUBLIC], description="How a tenant presents itself on a sign-in page.")
class SignInBranding:
    name: str | None = strawberry.field(description="The name to show; null if the tenant has not set one.")
    primary_colour: str = strawberry.field(description="Of buttons and links, as `#rrggbb`.")
    secondary_colour: str = strawberry.field(description="Of what is less important.")
    background_colour: str = strawberry.field(description="Of the page.")
    text_colour: str = strawberry.field(description="Of text on the page.")
    logo: str | None = strawberry.field(description="The address of an image: a URL of https.")
