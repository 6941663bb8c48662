"""One client for every call to a language model."""
