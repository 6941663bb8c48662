"""The page to play with: a history of one's own, words, and what several recommenders make of them side by side."""
