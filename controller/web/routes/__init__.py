"""What the controller answers: one blueprint a module."""
