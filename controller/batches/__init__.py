"""Batches: images that lie in a bucket of the user, and that are classified where they are."""
