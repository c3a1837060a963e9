"""What a tenant sees of security incidents that concern it: see isola.platform.incidents."""
