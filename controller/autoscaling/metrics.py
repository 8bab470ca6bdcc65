"""Prometheus metrics of launches, starts, stops and terminations."""

from prometheus_client import Counter

LAUNCHED = Counter("classifier_instances_launched", "Instances that were launched.")
TERMINATED = Counter("classifier_instances_terminated", "Instances that the autoscaler terminated.")
STARTED = Counter("classifier_instances_started", "Stopped instances that were started again.")
STOPPED = Counter("classifier_instances_stopped", "Instances that the autoscaler stopped.")
LAUNCH_ERRORS = Counter("classifier_launch_errors", "Launches that EC2 refused or did not answer.")
