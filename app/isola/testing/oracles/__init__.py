"""The oracles, which decide whether isolation held.

=====================  ==========================================================================
``canary``             rows marked with their tenant, in every table, recognizable in any output
``watch``              responses, errors, logs and files, searched for the canaries of others
``walk``               documents for every path through the schema, generated from the schema
``noninterference``    whether A's responses depend on B's data
``differential``       one sequence of operations, with the same results on every placement
=====================  ==========================================================================

The fourth oracle, mutation, tests the suite and not the program: see ``tests/mutation``.
"""
