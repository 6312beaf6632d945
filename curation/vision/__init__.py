"""Stages over images: what is measured in one decode, and what is decided from it."""
