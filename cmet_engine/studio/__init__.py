"""The studio: a page in the browser, which is a client of the engine."""
