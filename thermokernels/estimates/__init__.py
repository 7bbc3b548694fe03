"""What can be said where enumeration ends: estimates from coupled chains, with intervals."""
