"""What decides whether isolation held, for every test that needs to know.

=====================  ==========================================================================
``canary``             rows that say whose they are, in every table, known wherever they turn up
``watch``              responses, errors, logs and files, searched for the canaries of others
``walk``               documents that take every path through the schema, made from the schema
``noninterference``    whether what A gets depends on what B has
``differential``       one sequence of operations, the same results on every placement
=====================  ==========================================================================

The fourth oracle, mutation, judges the suite and not the program: see ``tests/mutation``.
"""
