"""A database for each tenant: README.md explains purpose and cost."""
