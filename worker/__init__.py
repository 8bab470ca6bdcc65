"""The app tier: takes image-ids from the request queue and writes predictions to the output bucket."""
