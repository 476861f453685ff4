"""What the platform hides with its own library of the same name: one compatible MQTT client."""
