"""LivePortrait and PerformRecast: portraits driven by pictures."""
