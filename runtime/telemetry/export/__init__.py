"""Export by OTLP."""
