"""What finished processes offer, as tables, cards, graphs and pages: nodes are read, nothing is computed anew."""
