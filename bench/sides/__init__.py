"""What is measured: each module holds the two sides (who calls, who answers) of one way to do the work."""
