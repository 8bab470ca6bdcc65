"""The life of a request: submission, polling, results, cancellation, retry and recovery. It uses no HTTP."""
