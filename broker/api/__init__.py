"""The HTTP endpoint: handlers parse, call one function and answer."""
