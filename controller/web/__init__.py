"""Everything that knows HTTP. It calls the other rooms of the controller, never the other way."""
