"""From an edited track to edited pictures."""
