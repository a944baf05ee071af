"""Where edited files come from: Content Credentials (C2PA), who signs them, consent, and the ledger of what was made from what."""
