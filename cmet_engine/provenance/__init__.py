"""Where edited files come from: Content Credentials (C2PA), who signs them, consent, the ledger of what was made from what, and the
mark in the picture."""
