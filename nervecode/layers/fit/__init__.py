"""What a fit gathers: of the layers, of the head, of the answers."""
