"""Datasets and runs for programs; see labelhub.api."""
