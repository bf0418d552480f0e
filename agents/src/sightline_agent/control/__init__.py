"""How the operator talks to the agent: status, events, configuration."""
