"""The GraphQL types of subjects, their filters, orderings, inputs and payloads: isola.api.declared puts them here.

Nothing else is in this module, so that a subject can be called anything.
"""
