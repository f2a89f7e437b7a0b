"""What runs under fire: `table` names them all."""
