"""From text to the IR: parse, resolve names, elaborate. Sees `base` and `core` alone."""
