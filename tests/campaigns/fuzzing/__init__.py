"""What is changed at random: the bytes of a store, inputs, model directories."""
