"""Checks the results of concurrent clients for the documented consistency guarantees, in the manner of Elle.

Elle (Kingsbury and Alvaro, VLDB 2020) infers the order of transactions from their appends and reads, and searches for
cycles. ``history`` defines the recorded operations, ``checker`` finds anomalies, and ``workload`` records histories of
a server over HTTP, with faults. The guarantees are in ``docs/consistency.md``.
"""
