"""The settings of one server: what each option is, its value, and those of them that a session has."""
