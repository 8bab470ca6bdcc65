"""A queue, a fleet on EC2 and the policies that scale it, simulated event by event."""
