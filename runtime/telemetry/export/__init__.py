"""Export of spans: the OTLP encoder, the HTTP transport, the background thread, and the settings of both."""
