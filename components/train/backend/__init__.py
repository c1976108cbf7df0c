"""What differs between what Keras runs on: devices, and operations that do more at once."""
