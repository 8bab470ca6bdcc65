"""Scales the fleet: observes it, plans, and applies the plan. One controller process at a time does so."""
