"""A request's life: submission, polling, results, cancel and retry, recovery. Nothing here knows HTTP."""
