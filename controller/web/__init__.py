"""The HTTP layer of the controller. It imports the controller's other packages; they never import it."""
