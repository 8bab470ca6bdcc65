"""The HTTP endpoints of the controller. Each module defines one Flask blueprint."""
