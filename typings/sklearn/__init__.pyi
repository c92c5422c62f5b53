"""The part of scikit-learn that is used here: it has no types of its own."""
