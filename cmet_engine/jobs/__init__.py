"""Work as requests: one description of it, its execution, worker processes, batches."""
