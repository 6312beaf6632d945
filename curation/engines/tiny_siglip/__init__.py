"""A SigLIP of our own that knows rendered shapes only: its inputs and its weights (`card.md` says what it is)."""
