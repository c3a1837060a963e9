"""Deliveries of tenants' events to their endpoints: see docs/webhooks.md."""
