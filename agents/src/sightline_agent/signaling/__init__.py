"""How peers ask for a stream: WHEP and the JSON offer."""
