"""`make bench-peers`: the server and its peers side by side."""
