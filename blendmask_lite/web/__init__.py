"""Files from the web, whole or in parts."""
