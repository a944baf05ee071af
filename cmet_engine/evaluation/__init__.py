"""What `cmet eval` measures. Imports the engine and is never imported by it."""
