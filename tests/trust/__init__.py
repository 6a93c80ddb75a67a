"""What must hold, tried out: each module is run by itself and writes down what it saw."""
