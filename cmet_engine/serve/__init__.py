"""The engine as a process: HTTP API and jobs."""
