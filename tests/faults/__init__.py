"""Faults between a server, its clients and its database, at a chosen step or under load."""
