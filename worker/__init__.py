"""The worker tier: receives messages from the request queue and writes predictions to the output bucket."""
