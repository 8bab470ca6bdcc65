"""Finds what is wrong with an AWS account before a first run, and says how to fix it."""
