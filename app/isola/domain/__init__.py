"""The nouns that ship, and the rules about them, written as if there were one customer only."""
