"""Describes the HTTP interface as an OpenAPI document, built from the app's own routes and models."""
