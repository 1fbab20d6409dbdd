"""The settings of one server: what each option is, its value, and what a session is told of them."""
