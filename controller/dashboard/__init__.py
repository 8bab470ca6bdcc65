"""Presents the fleet to people, as a page or as text, and to Prometheus, as metrics."""
