"""The stages of a run. They meet through its files and never import each other."""
