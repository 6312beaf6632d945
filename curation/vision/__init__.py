"""Stages over pictures: what is measured in one decode, and what is decided from it."""
