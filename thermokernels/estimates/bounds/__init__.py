"""What holds of T_O where there is no estimate."""
