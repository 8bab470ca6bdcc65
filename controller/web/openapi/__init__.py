"""What the controller answers, as an OpenAPI document: made of the app's own routes and models."""
