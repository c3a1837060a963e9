"""`make bench-peers`: a comparison of the server with its peers."""
