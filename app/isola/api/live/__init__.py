"""Subscriptions: events of the feed, over WebSocket and server-sent events. See docs/live.md."""
