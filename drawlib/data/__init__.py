"""What is learned from: data sets, their protocols, and where the bytes come from."""
