"""Mutation tests of the suite: each sabotage removes one part of the isolation, and a test has to fail.

``make mutation`` tries all of them; ``python -m tests.mutation --help`` lists other options.
"""
