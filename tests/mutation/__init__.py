"""The suite on trial: each sabotage takes one part of the isolation away, and the suite has to turn red.

``make mutation`` tries all of them, ``python -m tests.mutation --help`` says what else there is.
"""
