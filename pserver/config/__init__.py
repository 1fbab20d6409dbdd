"""The settings of one server: the options, their values, and the settings that a session gets."""
