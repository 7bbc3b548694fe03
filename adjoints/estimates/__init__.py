"""The gradient of Q of a model of any size, from coupled chains."""
