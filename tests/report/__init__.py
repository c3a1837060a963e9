"""``make isolation-report``: runs all that proves isolation, and writes down what came of it."""
