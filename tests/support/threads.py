import threading


def join_threads(prefix: str) -> None:
    """Waits for the end of all threads whose names begin with `prefix`."""
    for thread in threading.enumerate():
        if thread.name.startswith(prefix):
            thread.join(10)
