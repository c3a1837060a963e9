"""The GraphQL types of subjects, their filters, orderings, inputs and payloads, added by isola.api.declared.

Nothing else is in this module, so that a subject can be called anything.
"""
