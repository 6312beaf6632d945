"""Interleaved documents: read, filtered, paired, pruned and put together again."""
