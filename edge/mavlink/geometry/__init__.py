"""Where the vehicle was, and where on the ground its camera looked: mathematics, without links and clocks."""
