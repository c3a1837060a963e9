"""The lab: evidence for choosing an isolation strategy. ``isola bench`` runs it."""
