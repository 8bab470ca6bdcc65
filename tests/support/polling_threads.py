import threading


def join_polling_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("poll-"):
            thread.join(10)
