"""The backend for joblib."""
