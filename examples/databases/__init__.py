"""A database for each tenant: README.md says what for, and what it costs."""
