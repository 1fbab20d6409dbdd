"""The joblib backend."""
