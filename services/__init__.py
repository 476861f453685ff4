"""The supervised Flask services, one package each; they import the library, never each other."""
