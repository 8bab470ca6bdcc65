"""The fleet: what is observed of it, what is planned, and what is done. One controller at a time acts."""
