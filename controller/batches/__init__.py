"""Batches: lists the images, sends them to the workers in slices, and tells how far they are."""
