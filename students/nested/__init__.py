"""One network, any budget at run time: layers whose first ranks are networks of their own."""
