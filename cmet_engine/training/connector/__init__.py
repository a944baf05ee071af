"""Training of the connector: from a change of voice to a change of expression."""
