"""Prometheus metrics of launches and terminations."""

from prometheus_client import Counter

LAUNCHED = Counter("classifier_instances_launched", "Instances that were launched.")
TERMINATED = Counter("classifier_instances_terminated", "Instances that the autoscaler terminated.")
LAUNCH_ERRORS = Counter("classifier_launch_errors", "Launches that EC2 refused or did not answer.")
