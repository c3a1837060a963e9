"""What concurrent clients saw, checked for what the documentation promises, in the manner of Elle.

Elle (Kingsbury and Alvaro, VLDB 2020) infers from what transactions appended and read which must have come before
which, and looks for cycles. ``history`` is what is recorded, ``checker`` looks for anomalies, ``workload`` records
histories of a server over HTTP, with faults. ``docs/consistency.md`` says what is promised.
"""
