"""Conformance checks, shipped so that the author of a plug-in runs the same ones."""
