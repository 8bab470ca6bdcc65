"""The web tier: takes uploads, asks the fleet, gives the answers."""
