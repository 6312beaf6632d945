"""Decontamination: rows that repeat items of evaluation sets are found and rejected, in text, image and audio."""
