import os
import subprocess
import sys
from collections import Counter

import psutil
import pytest

from bench.bill import THREAD_NAMES, Load, autoscaler_seconds, price, price_of

BUSY = """
from threading import Thread
import time
def work():
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    print(flush=True)
    time.sleep(60)
Thread(target=work, name="autoscaler", daemon=True).start()
Thread(target=time.sleep, args=[60], name="another", daemon=True).start()
input()
"""


def test_a_call_has_the_price_of_its_kind():
    assert price(("s3", "PutObject")) == 5
    assert price(("s3", "DeleteObject")) == price(("ec2", "RunInstances")) == 0
    assert price_of(Counter({("s3", "PutObject"): 3, ("sqs", "SendMessage"): 5})) == pytest.approx(17e-6)


def test_what_a_load_takes_is_divided_by_its_images():
    load = Load(images=100, calls=Counter({("s3", "PutObject"): 250}), cpu=Counter({"controller": 0.8}))
    assert load.per_image(("s3", "PutObject")) == 2.5
    assert load.per_image(("sqs", "SendMessage")) == 0
    assert load.cpu_ms("controller") == pytest.approx(8)


def test_the_processor_time_of_an_autoscaler_is_seen_from_outside():
    environment = os.environ | {"PYTHONPATH": str(THREAD_NAMES)}
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        (seconds,) = autoscaler_seconds(psutil.Process(process.pid))
        process.kill()
    assert 0.05 < seconds < 5
