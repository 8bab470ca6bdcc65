"""Bakes the artefact that workers load. Only here, and for ENGINE=torch, is torch needed."""
